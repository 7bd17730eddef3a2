"""Ids of Meta's as options take them."""

import sys

import click


class _MetaId(click.ParamType):
    name = "ID"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value == "-":
            value = sys.stdin.readline().strip()
        if not (value.isascii() and value.isdigit()):
            # The value itself is about a person.
            self.fail("an id is digits only", param, ctx)
        return value


# Digits; "-" reads them from stdin, for what is typed stays in the shell's history.
META_ID = _MetaId()
