"""Short answers: text in a terminal, a rendered note in JupyterLab with buttons for what one may want next."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Shown:
    "A short answer: text in a terminal, a rendered note in JupyterLab."

    title: str
    text: str = ""
    """Markdown, shown as it is in a terminal."""
    details: str = ""
    """Lines in the font of code."""
    hint_for: str | None = None
    """The exercise for which buttons offer the hints, one after another."""
    passed: bool = False
    """Whether it says that an answer holds."""
    next_after: str | None = None
    """The exercise after which a button offers the next one."""

    def __repr__(self) -> str:
        return "\n".join(filter(None, [self.title, self.text, self.details]))

    def _repr_markdown_(self) -> str:
        details = f"```text\n{self.details}\n```" if self.details else ""
        sign = "✓ " if self.passed else "✗ " if self.hint_for else ""
        return "\n\n".join(filter(None, [f"**{sign}{self.title}**", self.text, details]))

    def bundle(self) -> dict[str, str]:
        "As a front end takes it: the form that it can show best."
        return {"text/plain": repr(self), "text/markdown": self._repr_markdown_()}

    def _ipython_display_(self) -> None:
        from IPython.display import display

        from microbert_course.practice.buttons import hint_ladder, next_button

        display(self.bundle(), raw=True)
        for box in (hint_ladder(self.hint_for) if self.hint_for else None, next_button(self.next_after) if self.next_after else None):
            if box is not None:
                display(box)
