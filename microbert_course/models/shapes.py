"""The sizes of the modern presets and of the decoders, as data that both the models and the command line read."""

# about 1, 5, 50, 125, 350 and 700 million parameters, the table of word vectors included
MODERN_SIZES = {
    "nano": dict(vocab_size=4_000, hidden_size=128, num_layers=3, num_heads=4, intermediate_size=240, max_seq_len=128),
    "tiny": dict(vocab_size=8_000, hidden_size=256, num_layers=5, num_heads=4, intermediate_size=448, max_seq_len=256),
    "small": dict(vocab_size=32_000, hidden_size=512, num_layers=11, num_heads=8, intermediate_size=1_280, max_seq_len=512),
    "medium": dict(vocab_size=32_000, hidden_size=768, num_layers=14, num_heads=12, intermediate_size=2_048, max_seq_len=1_024),
    "large": dict(vocab_size=32_000, hidden_size=1_024, num_layers=28, num_heads=16, intermediate_size=2_304, max_seq_len=1_024),
    "xlarge": dict(vocab_size=32_000, hidden_size=1_536, num_layers=24, num_heads=24, intermediate_size=3_840, max_seq_len=1_024),
}

# decoders of about 16, 46 and 117 million parameters; the vocabulary is SmolLM2's, which comes with that model's file
LM_SIZES = {
    "lm-tiny": dict(vocab_size=49_152, hidden_size=256, num_layers=4, num_heads=4, num_kv_heads=2, intermediate_size=896, max_seq_len=256),
    "lm-small": dict(vocab_size=49_152, hidden_size=512, num_layers=6, num_heads=8, num_kv_heads=4, intermediate_size=1_792, max_seq_len=512),
    "lm-medium": dict(vocab_size=49_152, hidden_size=768, num_layers=12, num_heads=12, num_kv_heads=4, intermediate_size=2_176, max_seq_len=1_024),
}


def decoder_sizes(
    name: str,  # a key of MODERN_SIZES
) -> dict[str, int]:  # as in LM_SIZES
    "The sizes of a modern encoder for a decoder: two query heads share a key head."
    sizes = MODERN_SIZES[name]
    return {**sizes, "num_kv_heads": sizes["num_heads"] // 2}
