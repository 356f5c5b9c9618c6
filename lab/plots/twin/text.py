"""Converts plotly's text, which may contain some HTML, to plain text for matplotlib."""

import html
import re

from lab.plots.twin.read import Undrawable

_RAISED = str.maketrans("0123456789+-n()", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ⁽⁾")
_LOWERED = str.maketrans("0123456789+-()", "₀₁₂₃₄₅₆₇₈₉₊₋₍₎")
_IGNORED = re.compile(r"</?(b|i|em|strong|span)( [^>]*)?>")


def plain(text: object) -> str:
    """The text without markup, in lines.

    Raises:
        Undrawable: the text has a tag other than br, b, i, span, sup and sub.
    """
    text = re.sub(r"<br ?/?>", "\n", str(text))
    text = re.sub(r"<sup>(.*?)</sup>", lambda m: m[1].translate(_RAISED), text)
    text = re.sub(r"<sub>(.*?)</sub>", lambda m: m[1].translate(_LOWERED), text)
    text = _IGNORED.sub("", text)
    if tag := re.search(r"</?[a-z]+[^<>]*>", text):
        raise Undrawable(f"the text {text!r} holds {tag[0]!r}, which its static twin cannot show")
    return html.unescape(text)


def power_of_ten(exponent: int) -> str:
    """A power of ten as plotly writes it on a log axis."""
    if exponent in (0, 1):
        return str(10**exponent)
    return "10" + str(exponent).translate(_RAISED)
