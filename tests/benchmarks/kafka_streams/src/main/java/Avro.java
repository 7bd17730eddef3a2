import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericDatumWriter;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.io.BinaryDecoder;
import org.apache.avro.io.BinaryEncoder;
import org.apache.avro.io.DecoderFactory;
import org.apache.avro.io.EncoderFactory;

/** Generic records in the Confluent wire format; one thread uses it. */
final class Avro {
    private static final int PREFIX = 5;

    final Schema schema;
    private final byte[] prefix;
    private final GenericDatumReader<GenericRecord> reader;
    private final GenericDatumWriter<GenericRecord> writer;
    private final ByteArrayOutputStream out = new ByteArrayOutputStream(1024);
    private BinaryEncoder encoder;
    private BinaryDecoder decoder;

    Avro(int id, String definition) {
        schema = new Schema.Parser().parse(definition);
        prefix = ByteBuffer.allocate(PREFIX).put((byte) 0).putInt(id).array();
        reader = new GenericDatumReader<>(schema);
        writer = new GenericDatumWriter<>(schema);
    }

    byte[] encode(GenericRecord record) {
        try {
            out.reset();
            out.write(prefix);
            encoder = EncoderFactory.get().binaryEncoder(out, encoder);
            writer.write(record, encoder);
            encoder.flush();
            return out.toByteArray();
        } catch (IOException fault) {
            throw new UncheckedIOException(fault);
        }
    }

    GenericRecord decode(byte[] value) {
        try {
            decoder = DecoderFactory.get().binaryDecoder(value, PREFIX, value.length - PREFIX, decoder);
            return reader.read(null, decoder);
        } catch (IOException fault) {
            throw new UncheckedIOException(fault);
        }
    }
}
