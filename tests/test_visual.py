"Explorables: each is drawn, told and moved; bound to live objects; small, quick, readable without colour, and there without widgets."

import base64
import inspect
import itertools
import json
import sys
import time
from functools import cache

import matplotlib
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgb
from matplotlib.patches import Rectangle

from microbert_course.errors import CourseError
from microbert_course.lessons.catalogue import find
from microbert_course.lessons.cells import read_notebook
from microbert_course.lessons.outputs import WIDGET, save_outputs
from microbert_course.models.attention import scaled_dot_product_attention
from microbert_course.models.gpt import past_keys
from microbert_course.models.quantization import PackedWeight
from microbert_course.training.memory import plan_memory
from microbert_course.visual import machines, matrices, palette, scores, steps
from microbert_course.visual.explore import Explored, explorables, explore

matplotlib.use("Agg")
NAMES = [explorable.name for explorable in explorables()]
MOVES = [(explorable.name, control.name) for explorable in explorables() for control in explorable.controls]
MAX_BYTES, MAX_PAINT_S = 300_000, 1.0


def pixels(figure) -> bytes:
    "The figure, small, without the search for a layout and without headings, which might be all that changes."
    figure.set_layout_engine("none")
    for ax in figure.axes:
        ax.set_title("", loc="left")
    figure.set_dpi(50)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return bytes(canvas.buffer_rgba())


def seen(explored) -> tuple[bytes, str]:
    "Picture and words."
    return pixels(explored.figure()), explored.words()


@cache
def at_start(name) -> tuple[bytes, str]:
    "Picture and words of the start, made once."
    return seen(explore(name))


@pytest.fixture(scope="module")
def painted():
    "name: (explored, its bundle, CPU seconds from the call to the bundle), libraries loaded before."
    pytest.importorskip("ipywidgets")
    explore("adamw_paths")._repr_mimebundle_()
    found = {}
    for name in NAMES:
        found[name] = paint(name)
        if found[name][2] > MAX_PAINT_S:  # on a crowded machine the same work takes more processor time, now and then
            found[name] = min(found[name], paint(name), key=lambda painted: painted[2])
    return found


def paint(name):
    "What `painted` holds of one."
    started = time.process_time()
    explored = explore(name)
    bundle = explored._repr_mimebundle_()
    return explored, bundle, time.process_time() - started


def test_there_are_at_least_twelve_and_their_names_are_their_own():
    assert len(NAMES) == len(set(NAMES)) >= 12


@pytest.mark.parametrize("name", NAMES)
def test_drawing_and_telling_are_plain_functions_of_live_objects_and_settings(name):
    "So whoever has no widgets calls them, and the catalogue's names are their arguments."
    explorable = next(one for one in explorables() if one.name == name)
    wanted = [*explorable.live, *(control.name for control in explorable.controls)]
    for function in (explorable.draw, explorable.tell):
        assert sorted(inspect.signature(function).parameters) == sorted(wanted)
    assert explorable.draw.__name__ == f"draw_{name}" and explorable.tell.__name__ == f"tell_{name}"
    assert explorable.question.endswith("?") and all(control.label for control in explorable.controls)


@pytest.mark.parametrize(("name", "moved"), MOVES)
def test_picture_and_words_change_when_a_control_moves(name, moved):
    explored = explore(name)
    given = dict(explored.controls[moved].given)
    before = seen(explored.set(**given)) if given else at_start(name)
    explored.set(**{moved: explored.controls[moved].elsewhere})
    after = seen(explored)
    assert after[0] != before[0], f"the picture of {name} stays as it is when {moved} moves"
    assert after[1] != before[1], f"the words of {name} stay as they are when {moved} moves"


@pytest.mark.parametrize("name", NAMES)
def test_picture_and_words_are_the_same_for_the_same_state(name):
    "Chance has its seed, so a saved lesson does not change when it is run again."
    assert seen(explore(name)) == at_start(name)


@pytest.mark.parametrize("name", NAMES)
def test_live_functions_are_called_and_live_tensors_are_drawn(name):
    "What a learner hands over is what is shown: a function is asked, and another tensor makes another picture."
    explored, (before, _) = explore(name), at_start(name)
    for word, value in list(explored.live.items()):
        calls = []
        if isinstance(value, dict) and all(map(callable, value.values())):
            explored.live[word] = {key: lambda *a, one=one, calls=calls, **k: calls.append(1) or one(*a, **k) for key, one in value.items()}
        elif isinstance(value, torch.nn.Module) or hasattr(value, "convert_ids_to_tokens"):
            continue  # the heads have a test of their own, and the tokenizer's words stand in the picture
        elif callable(value):
            explored.live[word] = lambda *a, value=value, calls=calls, **k: calls.append(1) or value(*a, **k)
        elif isinstance(value, torch.Tensor):
            explored.live[word] = value.flip(-1) * 0.7
            assert pixels(explored.figure()) != before, word
            explored.live[word] = value
            continue
        else:
            continue
        explored.figure()
        explored.live[word] = value
        if name == "packing_board" or calls:
            continue
        raise AssertionError(f"{name} never calls {word}")


def test_sizes_and_first_paint_are_within_their_limits(painted, capsys, is_timed):
    "The table of all: kilobytes of picture and words, as a lesson saves them, and seconds of processor time until they are there."
    lines = [f"{'explorable':22} {'lesson':6} {'KB':>5} {'s':>5}"]
    for name, (explored, bundle, seconds) in painted.items():
        size = len(json.dumps(bundle).encode()) + len(json.dumps(explored.widget().children[1].value).encode())
        lines.append(f"{name:22} {explored.explorable.lesson:6} {size / 1000:5.0f} {seconds:5.2f}")
        assert size <= MAX_BYTES, lines[-1]
        assert seconds <= MAX_PAINT_S or not is_timed, lines[-1]
    with capsys.disabled():
        print("", *lines, sep="\n")


@pytest.mark.parametrize("name", NAMES)
def test_output_has_a_widget_a_picture_and_words(painted, name):
    "JupyterLab takes the first, GitHub and the website the second, a terminal and a screen reader the third."
    explored, bundle, _ = painted[name]
    assert bundle.keys() == {WIDGET, "image/png", "text/plain"}
    assert base64.b64decode(bundle["image/png"]).startswith(b"\x89PNG")
    assert explored.words() in bundle["text/plain"]
    shown = explored.widget().children[1].value
    assert 'alt="' in shown and 'aria-live="polite"' in shown and bundle["image/png"] in shown


@pytest.mark.parametrize("name", NAMES)
def test_every_control_is_a_labelled_widget_that_moves_the_picture(name, monkeypatch):
    "Each widget is moved as a reader moves it; one that is deaf fails. That the picture follows the settings is tested above, so none is drawn."
    pytest.importorskip("ipywidgets")
    monkeypatch.setattr(Explored, "png", lambda self: repr(self.settings).encode())
    explored = explore(name)
    box, picture = explored.widget().children[0], explored.widget().children[1]
    assert len(box.children) == len(explored.controls)
    for widget, control in zip(box.children, explored.controls.copy().values(), strict=True):
        explored.set(**dict(control.given))
        start = explored.settings[control.name]
        before, target = picture.value, explored.controls[control.name].elsewhere
        if control.kind == "paint":
            assert all(switch.tooltip for switch in widget.switches.values())
            widget.switches[target[0]].value = True
        else:
            assert widget.description == control.label and widget.tooltip == control.label
            widget.value = target
        assert explored.settings[control.name] == target and picture.value != before, control.name
        explored.set(**{control.name: start})
        assert widget.value == start


def test_without_ipywidgets_there_is_still_a_picture_and_words(monkeypatch):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    assert explore("ring_all_reduce")._repr_mimebundle_().keys() == {"image/png", "text/plain"}


def test_a_bad_line_of_text_is_answered_in_one_sentence_and_the_next_good_one_is_drawn():
    pytest.importorskip("ipywidgets")
    explored = explore("attention_heads")
    picture, text = explored.widget().children[1], explored.widget().children[0].children[0]
    for bad, said in ((" ", "type a few words"), ("film " * 30, "room for 20: shorten it")):
        text.value = bad
        assert "Not drawn" in picture.value and said in picture.value and "<img" not in picture.value
    text.value = "a film"
    assert "<img" in picture.value and explored.settings["text"] == "a film"


def test_wordpiece_follows_every_key_and_the_others_wait_for_enter():
    "A picture at every key has to be a quick one; a model's answer to half a sentence helps nobody."
    pytest.importorskip("ipywidgets")
    texts = {name: explore(name).widget().children[0].children[0] for name in ("wordpiece_splitting", "attention_heads", "masking_sampler")}
    assert {name: text.continuous_update for name, text in texts.items()} == {
        "wordpiece_splitting": True, "attention_heads": False, "masking_sampler": False}


def test_a_sign_that_no_font_has_is_drawn_without_a_warning(recwarn):
    "Type an emoji into WordPiece: the cell stays clean."
    explore("wordpiece_splitting", text="a film 🎬").png()
    assert not [warning for warning in recwarn if "Glyph" in str(warning.message)]


def test_a_shorter_sentence_takes_the_chosen_token_with_it():
    "The choice of tokens follows the sentence, and what was chosen moves to the last one there is."
    explored = explore("attention_heads", text="an odd film", token=4)
    explored.set(text="a film")
    assert explored.settings["token"] == 3 and explored.controls["token"].choices == (0, 1, 2, 3)
    assert explored.controls["token"].labels[3] == "3 [SEP]"


@pytest.mark.parametrize(("call", "said"), [
    (lambda: explore("attention_head"), "no explorable 'attention_head': did you mean attention_heads?"),
    (lambda: explore("ring_all_reduce", model=1), "ring_all_reduce has nothing called 'model': it takes ring, step, world_size"),
    (lambda: explore("ring_all_reduce", step=7), "step is 7: choose a whole number from 0 to 6"),
    (lambda: explore("ring_all_reduce", world_size=2.5), "world_size is 2.5: choose a whole number from 2 to 6"),
    (lambda: explore("softmax_temperature", divided=1), "divided is 1: choose True or False"),
    (lambda: explore("softmax_temperature", temperature=0), "temperature is 0: choose a number from 0.1 to 4"),
    (lambda: explore("mask_painter", flipped=((0, 9),)), "flipped is ((0, 9),): give a tuple of (row, column), each from 0 to 6"),
    (lambda: explore("mask_painter", pattern="mine"), "choose one of everybody, causal, two documents, window, padding"),
    (lambda: explore("grpo_group").set(groups=3), "grpo_group has no control 'groups': there are group_size, draw, scale"),
    (lambda: explore("attention_heads", model=torch.nn.Identity()), "a model is given without its tokenizer"),
    (lambda: explore("lora_rank", change=torch.ones(4)), r"change has the shape (4,): give (rows, columns)"),
    (lambda: explore("quantisation_bits", weight=torch.zeros(4, 4)), "weight is 0 everywhere"),
    (lambda: explore("quantisation_bits", weight=torch.ones(4096, 1025)), "weight has 4,198,400 numbers, and what a slider moves has to be quick: give a part"),
    (lambda: explore("wordpiece_splitting", text=25 * "film ").words(), "the text has 25 words, and the picture has room for 24: shorten it"),
    (lambda: explore("masking_sampler", text=39 * "film ").words(), "the text has 41 tokens, and the picture has room for 40: shorten it"),
    (lambda: explore("softmax_temperature", query=torch.ones(2, 3), key=torch.ones(2, 4)), "query (2, 3) and key (2, 4) do not fit"),
    (lambda: explore("mask_painter", scores=torch.ones(2, 3)), "give one square with a side for every token"),
    (lambda: explore("router_load", logits=torch.ones(3)), "give (num_tokens, num_experts)"),
    (lambda: explore("grpo_group", completions=["a"], rewards=[1.0]), "give two or more completions"),
    (lambda: explore("packing_board", lengths=[3, 0]), "give whole numbers from 1"),
    (lambda: explore("schedule_designer", schedules=["mine"]), "give a dict, as {'mine': my_schedule}"),
    (lambda: explore("residual_norms", hidden_states=torch.ones(2, 3)), "give (batch, seq, hidden)"),
])
def test_bad_input_is_answered_in_one_sentence_with_what_would_be_right(call, said):
    with pytest.raises(ValueError) as caught:
        call()
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_a_refused_setting_leaves_the_state_as_it_was():
    explored = explore("ring_all_reduce")
    with pytest.raises(CourseError):
        explored.set(world_size=3, step=6)
    assert explored.settings == {"world_size": 4, "step": 2} and explored.controls["step"].high == 6


# --- colours -----------------------------------------------------------------------------------------------------------

# red, green and blue as they reach people without one kind of cone (Machado et al. 2009, severity 1; linear light)
BLINDNESS = {
    "protanopia": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deuteranopia": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "tritanopia": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
}


def lab(colour, matrix):
    "A colour in CIELAB, where distances are about those that people see; 2.3 can just be noticed."
    rgb = torch.tensor(to_rgb(colour), dtype=torch.float64)
    linear = torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    linear = (torch.as_tensor(matrix, dtype=torch.float64) @ linear).clamp(0, 1)
    to_xyz = torch.tensor([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]], dtype=torch.float64)
    x, y, z = ((to_xyz @ linear) / torch.tensor([0.9505, 1.0, 1.089], dtype=torch.float64)).clamp(min=1e-6) ** (1 / 3)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("kind", BLINDNESS)
def test_colours_can_be_told_apart_without_one_kind_of_cone(kind):
    "The pairs that stand side by side; and the test itself finds the red and green that everybody warns of."
    names = ("blue", "red", "green", "orange")
    for one, other in itertools.combinations(names, 2):
        distance = (lab(palette.COLOURS[one], BLINDNESS[kind]) - lab(palette.COLOURS[other], BLINDNESS[kind])).norm()
        assert distance > 10, (kind, one, other, float(distance))
    if kind == "deuteranopia":
        assert (lab("#a05000", BLINDNESS[kind]) - lab("#5a7d00", BLINDNESS[kind])).norm() < 10


def signs(figure):
    "For each axes: {colour: its other signs} of lines with a label, and of bars with one."
    for ax in figure.axes:
        lines = [(to_hex(line.get_color()), (line.get_linestyle(), line.get_marker())) for line in ax.lines if not line.get_label().startswith("_")]
        bars = [(to_hex(group[0].get_facecolor()), group[0].get_hatch() or "") for group in ax.containers if group and not group.get_label().startswith("_")]
        yield from (kind for kind in (lines, bars) if kind)


@pytest.mark.parametrize("name", NAMES)
def test_colours_are_the_palettes_and_never_the_only_sign(name):
    "What a legend names differs in dash, marker or hatching too."
    allowed = {to_hex(colour) for colour in (*palette.COLOURS.values(), *palette.TINTS.values(), palette.INK, palette.GREY, palette.PALE, palette.PAPER)}
    figure = explore(name).figure()
    used = {to_hex(line.get_color()) for ax in figure.axes for line in ax.lines} | {
        to_hex(patch.get_facecolor()) for patch in figure.findobj(Rectangle) if patch.get_fill() and patch.get_facecolor()[3] == 1}
    assert used - {"#000000", "#ffffff"} <= allowed, used - allowed
    for group in signs(figure):
        assert len(set(group)) == len({sign for _, sign in group}), (name, group)


# --- what is drawn is right ----------------------------------------------------------------------------------------------

def test_heads_are_those_of_the_model_that_is_given():
    "The square is the model's own weights, and it moves with them; pointing at a token says what the bars show."
    explored = explore("attention_heads", layer=1, head=2, text="the film was odd")
    model, tokenizer = explored.live["model"], explored.live["tokenizer"]
    ids = torch.tensor([tokenizer("the film was odd")["input_ids"]])
    square = torch.tensor(explored.figure().axes[0].images[0].get_array())
    assert torch.equal(square, model.attention_weights(ids)[1][0, 2])
    before = pixels(explored.figure())
    with torch.no_grad():
        model.blocks[1].attention.sublayer.qkv.weight.mul_(5)
    assert pixels(explored.figure()) != before
    hover = explored.explorable.hover(**explored.live, **explored.settings)
    assert hover.count('tabindex="0"') == ids.size(1) and "looks at" in hover


def test_a_painted_causal_mask_gives_the_weights_of_lesson_three():
    query, key = torch.randn(2, 1, 1, 6, 4, generator=torch.Generator().manual_seed(1))
    squares = (query @ key.transpose(-2, -1) / 2)[0, 0]
    expected = scaled_dot_product_attention(query, key, key, is_causal=True)[1][0, 0]
    assert torch.equal(scores.masked_weights(squares, scores.may_look(6, past_keys, "causal", 2, ())), expected)
    alone = scores.may_look(6, past_keys, "causal", 2, ((0, 0),))
    assert not alone[0].any() and scores.masked_weights(squares, alone)[0].sum() == 0


def test_one_row_of_weights_is_that_of_lesson_three():
    query, key = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(1))
    expected = scaled_dot_product_attention(query[None, None], key[None, None], key[None, None])[1][0, 0]
    torch.testing.assert_close(scores.softmax_weights(query, key, 8, True, 1.0, 2), expected[2])
    assert scores.spread(torch.full((5,), 0.2)) == pytest.approx(5) and scores.spread(torch.eye(5)[0]) == pytest.approx(1)


@pytest.mark.parametrize("world_size", range(2, 7))
def test_the_ring_ends_with_everybodys_sum_in_every_process(world_size):
    states = machines.ring_on_paper([[10**rank * (chunk + 1) for chunk in range(world_size)] for rank in range(world_size)])
    ones = int("1" * world_size)
    assert len(states) == 2 * world_size - 1 and all(row == [ones * (chunk + 1) for chunk in range(world_size)] for row in states[-1])


def test_levels_and_rounding_are_those_of_lesson_twenty_one():
    weight = torch.randn(16, 24, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(matrices.rounded(weight, 4, "normal", 64)[1], PackedWeight(weight, "nf4", 64).dequantize())
    torch.testing.assert_close(matrices.rounded(weight, 8, "even", 64)[1], PackedWeight(weight, "int8", 64).dequantize())


def test_what_a_rank_misses_is_what_is_left_of_the_matrix():
    change = torch.randn(9, 7, generator=torch.Generator().manual_seed(1))
    left, values, right = matrices.decomposed(change)
    missed = matrices.left_over(values)
    for rank in range(8):
        expected = (change - left[:, :rank] * values[:rank] @ right[:rank]).norm() / change.norm()
        assert float(missed[rank]) == pytest.approx(float(expected), abs=1e-5)


def test_the_memory_bar_is_as_long_as_the_plan():
    explored = explore("memory_bar", batch_size=8, precision="bf16", checkpointing=True, attention="fused")
    plan = plan_memory(explored.live["config"], 8, 512, precision="bf16", checkpointing=True, attention="fused")
    row = [patch for patch in explored.figure().axes[0].patches if patch.get_height() == 0.7]
    assert sum(patch.get_width() for patch in row) == pytest.approx(plan.total / 1e9)


def test_the_pretended_training_crashes_and_loses_where_it_should():
    "A scale too high is halved until it fits; with one too low, fp16 makes zeros of what it cannot hold."
    scaler = steps.LossScaler
    scales, skipped, _ = steps.scaled_training(scaler, 32, 2000, -8, 0)
    assert skipped[:6] == [True] * 6 and scales[1] == scales[0] / 2
    assert sum(steps.scaled_training(scaler, 0, 2000, -26, 0)[2]) / steps.NUM_UPDATES > 0.5
    assert sum(steps.scaled_training(scaler, 16, 2000, -26, 0)[2]) == 0


def test_a_packed_row_is_never_longer_than_it_may_be():
    lengths = [300, 5, 90, 64, 120]
    for method in machines.METHODS:
        sizes, rows = machines.packed_rows(lengths, machines.best_fit, method, 128, 5)
        assert sum(sizes) == sum(lengths) and sorted(number for row in rows for number in row) == list(range(len(sizes)))
        assert max(sum(sizes[number] for number in row) for row in rows) <= 128


# --- in the lessons ------------------------------------------------------------------------------------------------------

def test_a_saved_lesson_keeps_the_picture_and_the_words_and_no_dead_widget(tmp_path):
    "A widget without its kernel is an error message; a progress bar, which is nothing but a widget, goes as a whole."
    cell = {"cell_type": "code", "id": "a", "metadata": {}, "source": "x", "execution_count": None, "outputs": []}
    frame = {"metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    bundle = {WIDGET: {"model_id": "1"}, "image/png": base64.b64encode(explore("ring_all_reduce").png()).decode(), "text/plain": "words"}
    outputs = [{"output_type": "execute_result", "metadata": {}, "execution_count": 1, "data": bundle},
               {"output_type": "display_data", "metadata": {}, "data": {WIDGET: {"model_id": "2"}, "text/plain": "bar"}}]
    (tmp_path / "settings.ini").write_text("[DEFAULT]\ntst_flags = slow\n")
    (tmp_path / "ran.ipynb").write_text(json.dumps({**frame, "cells": [{**cell, "outputs": outputs}]}))
    (tmp_path / "source.ipynb").write_text(json.dumps({**frame, "cells": [cell]}))
    save_outputs(tmp_path / "ran.ipynb", tmp_path / "source.ipynb")
    saved = json.loads((tmp_path / "source.ipynb").read_text())["cells"][0]["outputs"]
    assert [output["data"].keys() for output in saved] == [{"image/png", "text/plain"}]


@pytest.mark.parametrize("name", NAMES)
def test_each_has_a_cell_in_its_lesson_and_its_picture_is_saved_there(name):
    "With the title as the first words of what is saved, and no more than a lesson's share of bytes."
    explorable = next(one for one in explorables() if one.name == name)
    cells = [cell for cell in read_notebook(find(explorable.lesson).path)["cells"] if f'explore("{name}"' in cell["source"]]
    assert len(cells) == 1, f"lesson {explorable.lesson} has {len(cells)} cells with explore(\"{name}\")"
    (output,) = [output for output in cells[0]["outputs"] if "data" in output]
    assert "".join(output["data"]["text/plain"]).startswith(explorable.title)
    assert len(json.dumps(output)) <= MAX_BYTES and "image/png" in output["data"] and WIDGET not in output["data"]
