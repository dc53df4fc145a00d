"""`models.one_query`: its kernel beside torch's attention. On a GPU it runs as compiled; without one Triton interprets it, where it is installed."""

import copy
import sys

import pytest
import torch
import torch.nn.functional as F

from microbert_course.models.gpt import GptConfig, GptForCausalLM, generate
from microbert_course.training.build import compile_parts

HAS_GPU = torch.cuda.is_available()
DEVICE, DTYPE = ("cuda", torch.bfloat16) if HAS_GPU else ("cpu", torch.float32)


@pytest.fixture(scope="module")
def attend_from_one(import_kernels):
    return import_kernels("models.one_query").attend_from_one


@pytest.mark.gpu
@pytest.mark.parametrize("batch, heads, kv_heads, num_keys, head_dim", [(2, 6, 2, 70, 64), (3, 9, 3, 130, 24), (1, 4, 4, 1, 16), (2, 20, 1, 200, 128), (1, 2, 1, 64, 8)])
@pytest.mark.parametrize("masked", ["not", "alike", "by row"])
def test_it_is_torchs_attention_and_reads_nothing_behind_the_last_visible_key(attend_from_one, batch, heads, kv_heads, num_keys, head_dim, masked):
    "Keys and values are views of tables with more room, the values' laid out another way."
    torch.manual_seed(0)
    query, key = torch.randn(batch, heads, 1, head_dim), torch.randn(batch, kv_heads, num_keys + 5, head_dim)
    value = torch.randn(batch, num_keys + 5, kv_heads, head_dim).transpose(1, 2)
    last, may_look = num_keys - 1, None
    if masked != "not":
        last = num_keys // 2
        may_look = torch.arange(num_keys) <= last if masked == "alike" else torch.rand(batch, num_keys) < 0.5
        may_look = may_look.view(-1, 1, 1, num_keys).clone()
        may_look[..., last] = True
        may_look[..., last + 1 :] = False
    query, key, value = (table.to(DEVICE, DTYPE) for table in (query, key, value))
    key, value = key[:, :, :num_keys], value[:, :, :num_keys]
    may_look = None if may_look is None else may_look.to(DEVICE)
    expected = F.scaled_dot_product_attention(query.double(), key.double(), value.double(), may_look, enable_gqa=True)
    key[:, :, last + 1 :] = value[:, :, last + 1 :] = torch.nan
    found = attend_from_one(query, key, value, may_look)
    tolerance = 1e-2 if HAS_GPU else 1e-5
    torch.testing.assert_close(found.double(), expected, rtol=tolerance, atol=tolerance)
    assert torch.equal(attend_from_one(query, key, value, may_look), found)


@pytest.mark.gpu
@pytest.mark.skipif(not HAS_GPU, reason="needs a CUDA device")
@pytest.mark.parametrize("is_compiled", [False, True])
@pytest.mark.parametrize("num_new", [8, 40])
def test_what_is_written_with_it_in_16_bits_is_what_the_model_expects_in_32(monkeypatch, attend_from_one, num_new, is_compiled):
    "Few tokens are written step by step, many by replaying a recorded one."
    torch.manual_seed(0)
    model = GptForCausalLM(GptConfig(vocab_size=101, hidden_size=96, num_layers=3, num_heads=6, num_kv_heads=2, initializer_range=0.1)).cuda()
    prompts, mask = torch.randint(1, 101, (3, 9), device="cuda"), torch.ones(3, 9, dtype=torch.long, device="cuda")
    mask[1, :4] = 0
    asked = []
    if is_compiled:
        compile_parts(model)
    else:
        monkeypatch.setattr(sys.modules["microbert_course.models.one_query"], "attend_from_one", lambda *tables: asked.append(len(tables[0])) or attend_from_one(*tables))
    generate(model, prompts, mask, num_new, temperature=0, num_samples=2)
    assert not asked  # in 32 bits nothing changes
    written = generate(model.bfloat16(), prompts, mask, num_new, temperature=0, num_samples=2)
    assert is_compiled or set(asked) == {6}
    with torch.no_grad():
        scores = copy.deepcopy(model).float()(written, F.pad(mask.repeat_interleave(2, dim=0), (0, num_new), value=1))[:, 8:-1]  # (6, num_new, vocab)
    short_by = scores.amax(-1) - scores.gather(-1, written[:, 9:, None])[..., 0]
    assert short_by.max() < 0.1 * scores.std()
