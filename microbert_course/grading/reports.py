"""Results as tables and as a page. None of them shows an input, an expected value or what a submission printed."""

import csv
import html
import io
import statistics
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from microbert_course.files import write_whole
from microbert_course.grading.records import Record
from microbert_course.grading.scoring import STATUSES
from microbert_course.grading.tasks import Sheet

FORMULA = ("=", "+", "-", "@", "\t", "\r")
NBGRADER = ("assignment", "duedate", "timestamp", "student_id", "last_name", "first_name", "email", "raw_score", "late_submission_penalty",
            "score", "max_score")
STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin:1rem 0}td,th{border:1px solid #ccc;padding:.25rem .6rem;text-align:left;vertical-align:top}
td.n{text-align:right}.weak{background:#fde8e8;padding:.5rem 1rem}"""


def defused(text: str) -> str:
    "A name that a spreadsheet will not take for a formula."
    return f"'{text}" if text.startswith(FORMULA) else text


def _table(rows: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([defused(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)
    return text.getvalue()


def write_csv(path: Path, records: Sequence[Record], sheets: Sequence[Sheet]) -> None:
    "One row a submission, one column an exercise."
    columns = [task.check.id for sheet in sheets for task in sheet.tasks]
    rows: list[list[object]] = [["id", "file", "status", "points", "max", "isolation", "reason", *columns]]
    for record in records:
        by_task = {grade.id: grade.status for grade in record.grades}
        rows.append([record.id, record.file, record.status, record.points, record.max_points, record.isolation, record.reason,
                     *(by_task.get(column, "") for column in columns)])
    write_whole(path, _table(rows))


def write_nbgrader(path: Path, records: Sequence[Record]) -> None:
    "The columns of `nbgrader export`."
    rows = [[record.lesson or "", "", "", record.id, "", "", "", record.points, 0, record.points, record.max_points] for record in records]
    write_whole(path, _table([NBGRADER, *rows]))


def write_html(path: Path, records: Sequence[Record], sheets: Sequence[Sheet], about: dict, lines: Sequence[str]) -> None:
    "For the teacher: how each task went, which mistakes were made, who could not be graded, and how to replay it all."
    body = [f"<h1>{len(records)} submissions</h1>"]
    body.append(f'<p class="{about["isolation"]}">isolation: <b>{about["isolation"]}</b></p>')
    for sheet in sheets:
        own = [record for record in records if record.lesson == sheet.lesson]
        body += [f"<h2>{_safe(sheet.lesson)}</h2>", _scores(own), _tasks(own, sheet), _mistakes(own, sheet)]
    if faults := [(record.id, record.reason) for record in records if record.reason]:
        body += ["<h2>Not gradable</h2>", _rows(("submission", "reason"), faults)]
    if lines:
        body += ["<h2>Passed over</h2>", "<ul>", *(f"<li>{_safe(line)}</li>" for line in lines), "</ul>"]
    body += ["<h2>Submissions</h2>", _rows(("submission", "points", "of", "statuses"), [
        (record.id, record.points, record.max_points, ", ".join(f"{grade.id} {grade.status}" for grade in record.grades) or record.reason)
        for record in records])]
    body += ["<h2>This grading</h2>", _rows(("", ""), list(about.items())),
             "<p>The seed decides every input: <code>microbert grade … --seed</code> with it gives the same grades again.</p>"]
    write_whole(path, f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Grades</title><style>{STYLE}</style>{"".join(body)}</html>\n')


def _scores(records: Sequence[Record]) -> str:
    points = [record.points for record in records]
    return f"<p>{len(points)} submissions; points from {min(points)} to {max(points)} of {records[0].max_points}, median {statistics.median(points):g}.</p>"


def _tasks(records: Sequence[Record], sheet: Sheet) -> str:
    counts = {task.check.id: Counter(grade.status for record in records for grade in record.grades if grade.id == task.check.id) for task in sheet.tasks}
    return _rows(("task", "points", *STATUSES), [(f"{task.number} {task.title}", task.points, *(counts[task.check.id][status] for status in STATUSES))
                                                 for task in sheet.tasks])


def _mistakes(records: Sequence[Record], sheet: Sheet) -> str:
    "What was said most often, named mistakes first."
    counts = Counter((grade.id, grade.mistake is None, grade.says) for record in records for grade in record.grades if grade.status != "passed")
    order = [task.check.id for task in sheet.tasks]
    rows = sorted(counts.items(), key=lambda item: (order.index(item[0][0]), item[0][1], -item[1]))
    return _rows(("task", "mistake", "how often"), [(id, says, count) for (id, _, says), count in rows]) if rows else ""


def _rows(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    title = f"<tr>{''.join(f'<th>{_safe(cell)}</th>' for cell in head)}</tr>" if any(head) else ""
    return "<table>" + title + "".join("<tr>" + "".join(
        f'<td class="n">{cell}</td>' if isinstance(cell, int) else f"<td>{_safe(cell)}</td>" for cell in row) + "</tr>" for row in rows) + "</table>"


def _safe(value: object) -> str:
    return html.escape(str(value))
