"""An explorable in the browser: its picture, its words, and its controls, moved with the keyboard alone."""


class Box:
    "The output of a cell `explore(…)`, by the names that `visual/explore.py` gives its parts."

    def __init__(self, output):
        self.whole = output.locator(".microbert-explored")
        self.whole.locator(".microbert-picture img").wait_for()

    def picture(self) -> str:
        "The picture's bytes, as its address has them; '' where a sentence stands in its place."
        image = self.whole.locator(".microbert-picture img")
        return image.get_attribute("src") if image.count() else ""

    def words(self) -> str:
        return self.whole.locator(".microbert-words").first.inner_text()

    def controls(self) -> list[str]:
        "The names of the controls that can be moved now, in the order of the Tab key."
        classes = self.whole.locator("[class*=control-]").evaluate_all("all => all.map(one => one.className)")
        return [word.removeprefix("control-") for text in classes for word in text.split() if word.startswith("control-")]

    def control(self, name: str):
        return self.whole.locator(f".control-{name}")

    def label(self, name: str) -> str:
        "What stands beside a control."
        return self.control(name).inner_text().strip()

    def move(self, name: str) -> None:
        "Take a control somewhere else, without the mouse."
        control, keyboard = self.control(name), self.whole.page.keyboard
        if (slider := control.locator(".noUi-handle")).count():
            at_end = slider.get_attribute("aria-valuenow") == slider.get_attribute("aria-valuemax")
            slider.focus()
            keyboard.press("Home" if at_end else "End")
        elif (choice := control.locator("select")).count():
            last = choice.evaluate("one => one.selectedIndex == one.options.length - 1")
            choice.focus()
            for key in ("Space", "ArrowUp" if last else "ArrowDown", "Enter"):  # closed, the arrow would move JupyterLab's cursor to another cell
                keyboard.press(key)
        elif (switch := control.locator("input[type=checkbox]")).count():
            switch.focus()
            keyboard.press("Space")
        elif (text := control.locator("input[type=text]")).count():
            text.focus()
            keyboard.press("ControlOrMeta+a")
            keyboard.insert_text("the odd film was a play , and an odd one")
            keyboard.press("Enter")
        else:
            control.locator("button").first.focus()
            keyboard.press("Space")

    def reached_by_tab(self) -> list[str]:
        "The controls that the Tab key comes to, from the first one until it leaves the box."
        found, keyboard = {}, self.whole.page.keyboard
        self.whole.locator("[class*=control-]").first.locator("input, select, button, .noUi-handle").first.focus()
        for _ in range(250):
            name = self.whole.evaluate(r"""whole => whole.contains(document.activeElement)
                ? document.activeElement.closest('[class*=control-]')?.className.match(/control-(\S+)/)[1] : null""")
            if name is None:
                break
            found[name] = True
            keyboard.press("Tab")
        return list(found)
