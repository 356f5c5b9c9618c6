"""What an audit found, and the error of one that cannot go on."""

import html


class AuditError(Exception):
    """Something measured would be meaningless: the task or the model is not what it should be."""


class Report:
    """What an audit found, as rows of (what, found, remark); displays as a table."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.rows: list[tuple[str, str, str]] = []

    def add(self, what: str, found: float | str, remark: str = "") -> None:
        """Append a row; numbers are shown to four digits."""
        shown = found if isinstance(found, str) else f"{found:,.4g}"
        self.rows.append((what, shown, remark))

    def __getitem__(self, what: str) -> str:
        """What was found under a name."""
        return {name: found for name, found, _ in self.rows}[what]

    def __repr__(self) -> str:
        widths = [max(len(row[i]) for row in self.rows) for i in range(2)]
        lines = [f"{w:<{widths[0]}}  {f:>{widths[1]}}  {r}".rstrip() for w, f, r in self.rows]
        return "\n".join([self.title, *lines])

    def _repr_html_(self) -> str:
        def row(tag: str, *texts: str) -> str:
            sides = zip(("left", "right", "left"), texts, strict=True)
            cells = [f'<{tag} style="text-align:{s}">{html.escape(t)}</{tag}>' for s, t in sides]
            return f"<tr>{''.join(cells)}</tr>"

        head = f"<thead>{row('th', '', 'found', 'remark')}</thead>"
        body = "".join(row("td", *texts) for texts in self.rows)
        return f"<b>{html.escape(self.title)}</b><table>{head}<tbody>{body}</tbody></table>"
