"""`microbert plan`: what it prints is the plan, what cannot fit is refused, and a mistake gets one sentence."""

import re
import subprocess
import sys

import pytest

from microbert_course.cli.main import main
from microbert_course.cli.planning import shown
from microbert_course.models.bert import MicroBertConfig
from microbert_course.training.memory import CARDS, largest_batch, plan_memory, plan_moments

V0 = MicroBertConfig(10_005, hidden_size=4, num_layers=2, num_heads=2, intermediate_size=16, max_seq_len=128)


def printed(capsys, *words) -> str:
    assert main(["plan", *words]) == 0
    return capsys.readouterr().out


def test_a_real_process_prints_the_plan_and_ends_well():
    done = subprocess.run([sys.executable, "-m", "microbert_course.cli.main", "plan", "--preset", "v0", "--batch", "64", "--gpu", "24GB"],
                          capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("v0: 2 × 4, 2 heads, 10,005 pieces; 64 rows of 128 tokens")
    assert f"largest batch in 24.00 GB: {largest_batch(V0, 24 * 10**9, accumulating=False):,} rows" in done.stdout


def test_every_part_has_its_line_with_its_bytes_now_and_at_most(capsys):
    out = printed(capsys, "--preset", "v0", "--batch", "512", "--precision", "bf16")
    plan, moments = plan_memory(V0, 512, precision="bf16"), plan_moments(V0, 512, precision="bf16")
    for name in ("parameters", "gradients", "optimizer", "activations", "attention_scores", "overhead"):
        line = re.search(rf"^{name.replace('_', ' ')} +(\S+) MB +(\d+)% +(\S+) MB$", out, re.MULTILINE)
        assert float(line[1].replace(",", "")) == pytest.approx(plan.parts[name] / 1e6, abs=0.051)
        assert int(line[2]) == pytest.approx(100 * plan.parts[name] / plan.total, abs=0.51)
        assert float(line[3].replace(",", "")) == pytest.approx(max(m.parts[name] for m in moments) / 1e6, abs=0.051)
    assert re.search(rf"^in all +{plan.total / 1e9:.2f} GB +100%$", out, re.MULTILINE)


def test_each_card_has_the_largest_batch_that_it_holds(capsys):
    out = printed(capsys, "--preset", "v0", "--batch", "100000", "--precision", "no")
    for card, num_bytes in CARDS.items():
        rows = largest_batch(V0, num_bytes)
        assert re.search(rf"^{re.escape(card)} +{rows:,} +{'fit' if rows >= 100_000 else 'do not fit'}$", out, re.MULTILINE)
    assert "fit" in out and "do not fit" in out


@pytest.mark.parametrize(("words", "settings"), [
    (["--checkpointing"], dict(checkpointing=True)),
    (["--attention", "math"], dict(attention="math")),
    (["--processes", "4"], dict(num_processes=4)),
    (["--accumulating"], dict(accumulating=True)),
    (["--device", "cpu"], dict(device="cpu")),
    (["--precision", "fp16"], dict(precision="fp16")),
])
def test_every_option_reaches_the_plan(words, settings, capsys):
    out = printed(capsys, "--preset", "v0", "--batch", "4096", "--precision", "no", *words)
    plan, plain = plan_memory(V0, 4096, **settings), plan_memory(V0, 4096)
    assert plan.parts != plain.parts
    for name, num_bytes in {**plan.parts, "in all": plan.total}.items():
        assert shown(num_bytes) in re.search(rf"^{name.replace('_', ' ')}  .*$", out, re.MULTILINE)[0]


def test_longer_rows_need_a_model_with_more_positions(capsys):
    assert "rows of 512 tokens" in printed(capsys, "--preset", "v0", "--batch", "8", "--seq", "512")


def test_without_a_batch_it_is_the_presets_own(capsys):
    assert "; 32 rows of 128 tokens, precision no" in printed(capsys, "--preset", "v0")


def test_what_does_not_fit_is_refused_after_the_table_with_the_largest_batch(capsys):
    assert main(["plan", "--preset", "v0", "--batch", "10000000", "--gpu", "8GB"]) == 1
    out, err = capsys.readouterr()
    rows = largest_batch(V0, 8 * 10**9)
    assert "in all" in out and f"at most {rows} rows fit" in err and err.count("\n") == 1


@pytest.mark.parametrize(("words", "sentence"), [
    (["--preset", "v99"], "there is no preset 'v99'"),
    (["--preset", "nano"], "nano has modern blocks, and the plan knows BERT's"),
    (["--gpu", "24 cards"], "'24 cards' is no size of memory"),
    (["--batch", "-3"], "-3 rows and 1 processes are no training"),
    (["--processes", "0"], "0 processes are no training"),
    (["--seq", "-3"], "max_seq_len is -3"),
])
def test_a_mistake_gets_one_sentence_and_no_table(words, sentence, capsys):
    assert main(["plan", *words]) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("microbert: ") and sentence in err and err.count("\n") == 1


def test_the_command_explains_itself(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["plan", "--help"])
    assert stopped.value.code == 0 and "usage: microbert plan" in capsys.readouterr().out
