select
    *,
    case
        when seconds_to_followup is null then 'not followed up'
        when seconds_to_followup <= 60 then 'within a minute'
        when seconds_to_followup <= 300 then 'within 5 minutes'
        when seconds_to_followup <= 3600 then 'within an hour'
        else 'later'
    end as speed
from {{ source('leadstream', 'lead_journeys') }}
