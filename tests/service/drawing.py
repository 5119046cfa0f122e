"""The dialog as a picture: our own drawing of the fields that the service model finds, for the documentation."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from tests.service.form import Field

_STYLE = """
body { margin: 0; padding: 24px; background: #56616b; font: 14px/1.45 Arial, sans-serif; color: #222; }
.dialog { max-width: 760px; margin: auto; background: #fff; border-radius: 4px; overflow: hidden; }
h1 { margin: 0; padding: 10px 16px; font-size: 15px; background: #f0f2f4; border-bottom: 1px solid #d5d9dd; }
form { padding: 8px 16px 16px; }
.field { display: grid; grid-template-columns: 190px 1fr; gap: 12px; padding: 8px 0; border-bottom: 1px solid #eef0f2; }
.field label { font-weight: bold; text-align: right; padding-top: 4px; }
.field i { color: #a30000; font-style: normal; }
.field p { margin: 3px 0 0; font-size: 12px; color: #60686f; }
.field input[type=text], select { width: 100%; box-sizing: border-box; padding: 4px 6px; font: inherit;
  border: 1px solid #aab2b9; border-radius: 3px; background: #fff; color: inherit; }
.static { padding-top: 4px; }
.buttons { padding: 12px 16px; text-align: right; background: #f0f2f4; border-top: 1px solid #d5d9dd; }
.buttons b { display: inline-block; padding: 5px 14px; border-radius: 3px; background: #1f6fb2; color: #fff; }
.buttons span { padding: 5px 14px; }
"""


def drawn(title: str, fields: Iterable[Field]) -> str:
    """A page with the dialog: what is not shown to people is left out."""
    rows = "\n".join(_row(field) for field in fields if field.shown)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
        f'<div class="dialog"><h1>{escape(title)}</h1><form>{rows}</form>'
        '<div class="buttons"><span>Cancel</span><b>Run Container</b></div></div></html>'
    )


def _row(field: Field) -> str:
    mark = " <i>*</i>" if field.required and field.kind != "static" else ""
    told = f"<p>{escape(field.description)}</p>" if field.description else ""
    return f'<div class="field"><label>{escape(field.label)}{mark}</label><div>{_control(field)}{told}</div></div>'


def _control(field: Field) -> str:
    if field.kind == "boolean":
        return f'<input type="checkbox"{" checked" if field.ticked else ""}>'
    if field.kind in ("select-one", "select-many"):
        options = [
            f"<option{' selected' if one.value == field.default else ''}>{escape(one.label)}</option>"
            for one in field.choices
        ]
        chosen = any(one.value == field.default for one in field.choices)
        return f"<select>{'' if chosen else '<option selected>Select...</option>'}{''.join(options)}</select>"
    if field.kind == "static":
        return f'<div class="static">{escape(field.default.rpartition("/")[2])}</div>'
    return f'<input type="text" value="{escape(field.default)}">'
