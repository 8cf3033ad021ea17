#!/usr/bin/env python3
"""Regenerates tests/vectors/released/ from public implementations; never needed by the build.

python3 -m venv V && V/bin/pip install torch==2.5.1 transformers==4.46.3 tokenizers gguf 'numpy<2'
V/bin/python scripts/make_released_vectors.py tests/vectors/released

logits.json   small random configurations of every architecture and transformers' outputs. Weights are not shipped:
              weight i of a tensor is a function of its name and i (weight_values below and released_fixture.h).
blocks.json   random blocks of every quantised type and what gguf-py makes of them
tokenizers.json  small trained tokenizers of every kind, hard texts and their ids by Hugging Face's tokenizers
tokenizer_configs.json  the same beside a tokenizer_config.json, and the ids that transformers gives with both
*.gguf        the same configurations as gguf-py writes them, Llama's queries and keys permuted as llama.cpp's converter does
"""
import base64
import json
import pathlib
import sys
import tempfile

import gguf
import numpy as np
import tokenizers as tk
import torch
import transformers as tf

MASK = (1 << 64) - 1


def weight_values(name, shape):
    """SplitMix64 from the FNV-1a hash of the name: matrices in +-0.5, vectors in +-0.1, gains about 1."""
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = (seed ^ byte) * 0x100000001B3 & MASK
    count = int(np.prod(shape))
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    unit = (z >> np.uint64(11)).astype(np.float64) * 2.0**-53 - 0.5
    if len(shape) == 1:
        unit = unit * 0.2 + (1.0 if name.endswith("weight") else 0.0)
    return unit.astype(np.float32).reshape(shape)


SMALL = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=4, intermediate_size=24, vocab_size=29,
             max_position_embeddings=20)
ENCODER = dict(SMALL, type_vocab_size=2, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
DISTIL = dict(dim=16, n_layers=2, n_heads=4, hidden_dim=24, vocab_size=29, max_position_embeddings=20)
LLAMA3 = dict(rope_type="llama3", factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=8)
CASES = {
    "gpt2": (tf.GPT2LMHeadModel,
             tf.GPT2Config(n_embd=16, n_layer=2, n_head=4, n_inner=24, vocab_size=29, n_positions=20)),
    "gpt_neox": (tf.GPTNeoXForCausalLM, tf.GPTNeoXConfig(**SMALL, rotary_pct=0.5)),
    "gpt_neox sequential": (tf.GPTNeoXForCausalLM, tf.GPTNeoXConfig(**SMALL, rotary_pct=1.0, use_parallel_residual=False)),
    "llama": (tf.LlamaForCausalLM, tf.LlamaConfig(**SMALL, num_key_value_heads=2, rms_norm_eps=1e-5)),
    "llama 3": (tf.LlamaForCausalLM, tf.LlamaConfig(**SMALL, num_key_value_heads=1, rope_theta=500.0, head_dim=6,
                                                    rope_scaling=LLAMA3, attention_bias=True, tie_word_embeddings=True)),
    "llama linear": (tf.LlamaForCausalLM, tf.LlamaConfig(**SMALL, rope_scaling=dict(rope_type="linear", factor=2.0))),
    "qwen2": (tf.Qwen2ForCausalLM, tf.Qwen2Config(**SMALL, num_key_value_heads=2, rope_theta=1000.0, tie_word_embeddings=True)),
    # The window holds all twelve tokens, and not one more.
    "mistral": (tf.MistralForCausalLM, tf.MistralConfig(**SMALL, num_key_value_heads=2, head_dim=6, sliding_window=12)),
    "opt": (tf.OPTForCausalLM, tf.OPTConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=4, ffn_dim=24, vocab_size=29,
                                            max_position_embeddings=20, word_embed_proj_dim=16)),
    "bert": (tf.BertModel, tf.BertConfig(**ENCODER)),
    "bert classifier": (tf.BertForSequenceClassification, tf.BertConfig(**ENCODER, num_labels=3)),
    "roberta classifier": (tf.RobertaForSequenceClassification,
                           tf.RobertaConfig(**dict(ENCODER, type_vocab_size=1), num_labels=2, pad_token_id=1)),
    "roberta with padding": (tf.RobertaModel, tf.RobertaConfig(**dict(ENCODER, type_vocab_size=1), pad_token_id=1)),
    "distilbert": (tf.DistilBertModel, tf.DistilBertConfig(**DISTIL)),
    "distilbert classifier": (tf.DistilBertForSequenceClassification, tf.DistilBertConfig(**DISTIL, num_labels=3)),
}
TOKENS = [3, 17, 28, 5, 5, 11, 23, 2, 9, 14, 8, 26]
PADDED = [3, 17, 1, 5, 5, 1, 23, 2, 1, 1, 8, 26]
TYPES = [0] * 7 + [1] * 5


def tokens_of(name):
    return PADDED if name.endswith("with padding") else TOKENS


def config_of(model):
    """What save_pretrained writes, without fields that no reader of ours looks at."""
    model.config.architectures = [type(model).__name__]
    config = json.loads(model.config.to_json_string(use_diff=True))
    return {k: v for k, v in config.items() if "dropout" not in k and k != "transformers_version"}


def make_model(name):
    kind, config = CASES[name]
    config._attn_implementation = "eager"
    model = kind(config).eval()
    tensors = {k: v for k, v in model.state_dict().items() if v.is_floating_point() and v.dim() > 0
               and "rotary" not in k and not k.endswith((".attn.bias", ".masked_bias", "attention.bias"))}
    if config.tie_word_embeddings:
        tensors.pop("lm_head.weight", None)
    with torch.no_grad():
        for key, value in tensors.items():
            value.copy_(torch.from_numpy(weight_values(key, tuple(value.shape))))
    return model, {k: v.numpy() for k, v in tensors.items()}


def run(model, name):
    inputs = dict(input_ids=torch.tensor([tokens_of(name)]))
    if name.startswith("bert"):
        inputs["token_type_ids"] = torch.tensor([TYPES])
    if name.startswith("roberta"):
        inputs["attention_mask"] = torch.ones(1, len(tokens_of(name)), dtype=torch.long)
    with torch.no_grad():
        out = model(**inputs)
    values = out.last_hidden_state if hasattr(out, "last_hidden_state") else out.logits
    return values.reshape(-1, values.shape[-1]).double().numpy()


def write_logits(path):
    cases = []
    for name in CASES:
        model, tensors = make_model(name)
        cases.append(dict(name=name, config=config_of(model), tensors={k: list(v.shape) for k, v in tensors.items()},
                          tokens=tokens_of(name), types=TYPES if name.startswith("bert") else [],
                          outputs=[[float(f"{v:.7g}") for v in row] for row in run(model, name)]))
    text = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    path.write_text("[\n" + text + "\n]\n")


# Where a block's scales stand. They are halves (BF16: the number itself): random bits, but finite ones.
BLOCK_SCALES = {"F16": [0], "BF16": [0], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82],
                "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ4_NL": [0], "IQ4_XS": [0]}


def write_blocks(path):
    random = np.random.default_rng(1)
    cases = []
    for kind in BLOCK_SCALES:
        quant = getattr(gguf.GGMLQuantizationType, kind)
        block, size = gguf.GGML_QUANT_SIZES[quant]
        count = max(1, 64 // block) if block > 1 else 40
        data = random.integers(0, 256, (count, size), dtype=np.uint8)
        for offset in BLOCK_SCALES[kind]:
            data[:, offset + 1] = random.integers(0, 128, count) - 64 * (kind != "BF16") & 0x3F | data[:, offset + 1] & 0x80
        values = gguf.quants.dequantize(data.reshape(1, -1), quant).astype(np.float32).reshape(-1)
        cases.append(dict(type=kind, bytes=base64.b64encode(data.tobytes()).decode(),
                          values=base64.b64encode(values.tobytes()).decode()))
    path.write_text(json.dumps(cases, indent=0) + "\n")


def permute(weights, heads):
    """llama.cpp's converter: rotary pairs (i, i + d/2) become (2 i, 2 i + 1)."""
    return weights.reshape(heads, 2, weights.shape[0] // heads // 2, *weights.shape[1:]).swapaxes(1, 2).reshape(weights.shape)


GGUF_NAMES = {
    "gpt2": [("transformer.", ""), ("wte", "token_embd"), ("wpe", "position_embd"), ("ln_f", "output_norm"), ("h.", "blk."),
             ("ln_1", "attn_norm"), ("ln_2", "ffn_norm"), ("attn.c_attn", "attn_qkv"), ("attn.c_proj", "attn_output"),
             ("mlp.c_fc", "ffn_up"), ("mlp.c_proj", "ffn_down")],
    "gpt_neox": [("gpt_neox.", ""), ("embed_in", "token_embd"), ("embed_out", "output"), ("final_layer_norm", "output_norm"),
                 ("layers.", "blk."), ("input_layernorm", "attn_norm"), ("post_attention_layernorm", "ffn_norm"),
                 ("attention.query_key_value", "attn_qkv"), ("attention.dense", "attn_output"),
                 ("mlp.dense_h_to_4h", "ffn_up"), ("mlp.dense_4h_to_h", "ffn_down")],
    "llama": [("model.", ""), ("embed_tokens", "token_embd"), ("lm_head", "output"), ("layers.", "blk."),
              ("input_layernorm", "attn_norm"), ("post_attention_layernorm", "ffn_norm"), ("self_attn.q_proj", "attn_q"),
              ("self_attn.k_proj", "attn_k"), ("self_attn.v_proj", "attn_v"), ("self_attn.o_proj", "attn_output"),
              ("mlp.gate_proj", "ffn_gate"), ("mlp.up_proj", "ffn_up"), ("mlp.down_proj", "ffn_down")],
    "bert": [("embeddings.word_embeddings", "token_embd"), ("embeddings.position_embeddings", "position_embd"),
             ("embeddings.token_type_embeddings", "token_types"), ("embeddings.LayerNorm", "token_embd_norm"),
             ("encoder.layer.", "blk."), ("attention.output.LayerNorm", "attn_output_norm"),
             ("attention.self.query", "attn_q"), ("attention.self.key", "attn_k"), ("attention.self.value", "attn_v"),
             ("attention.output.dense", "attn_output"), ("intermediate.dense", "ffn_up"),
             ("output.LayerNorm", "layer_output_norm"), ("output.dense", "ffn_down")],
}


GGUF_NAMES["qwen2"] = GGUF_NAMES["mistral"] = GGUF_NAMES["llama"]
GGUF_ARCHITECTURES = {"gpt_neox": "gptneox", "mistral": "llama"}


def gguf_name(family, name):
    for old, new in GGUF_NAMES[family]:
        name = name.replace(old, new)
    return "output_norm.weight" if name == "norm.weight" else name


def gguf_tensor(family, name, value, config):
    heads = config.num_attention_heads
    if family == "gpt2" and value.ndim == 2 and ".c_" in name:
        return value.T
    interleaved = family in ("llama", "mistral")
    if interleaved and "q_proj" in name:
        return permute(value, heads)
    if interleaved and "k_proj" in name:
        return permute(value, config.num_key_value_heads)
    if family == "gpt_neox" and "query_key_value" in name:
        return value.reshape(heads, 3, -1, *value.shape[1:]).swapaxes(0, 1).reshape(value.shape)
    return value


def write_gguf(folder, family):
    model, tensors = make_model(family)
    config = model.config
    writer = gguf.GGUFWriter(str(folder / f"{family}.gguf"), GGUF_ARCHITECTURES.get(family, family))
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(24)
    writer.add_head_count(config.num_attention_heads)
    if family in ("llama", "mistral", "qwen2"):
        width = getattr(config, "head_dim", 4)
        writer.add_head_count_kv(config.num_key_value_heads)
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
        writer.add_rope_dimension_count(width)
        writer.add_rope_freq_base(config.rope_theta)
        writer.add_key_length(width)
        writer.add_value_length(width)
    else:
        writer.add_layer_norm_eps(getattr(config, "layer_norm_eps", 1e-5))
    if family == "mistral":
        writer.add_sliding_window(config.sliding_window)
    if family == "gpt_neox":
        writer.add_parallel_residual(True)
        writer.add_rope_dimension_count(2)
    if family == "bert":
        writer.add_causal_attention(False)
    for name, value in tensors.items():
        if "pooler" not in name:
            writer.add_tensor(gguf_name(family, name), np.ascontiguousarray(gguf_tensor(family, name, value, config)))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


HARD_TEXTS = [
    "", " ", "  ", "a", " a", "a ", "  two  spaces  ", "\t\ttabs\r\n\r\nlines \n end\n\n", "It's we'll THEY'RE I'D don't 's't '\u017f",
    "x=3.14159e-10+1,234,567;", "007 \u0661\u0662\u0663 \u00bd \u2167", "caf\u00e9 cafe\u0301 \u01c4 \ufb01 \u0130stanbul \u1e9e",
    "\u4e2d\u6587 \u65e5\u672c\u8a9e \ud55c\uad6d\uc5b4", "\U0001f600\U0001f468\u200d\U0001f469 \u2764\ufe0f", "a\u0000b\ufffdc\u200bd\u00ade\u0085f",
    "\u3000wide\u3000 \u00a0nbsp\u00a0 \u2028line", "<s>begin</s> <mask> <mask>x x<mask>", "[CLS] [SEP][UNK] [MASK]s", "snake_case->field != a&&b // ok?!",
    "\u2581already \u2581\u2581marked", "sent. \u0964 \u0589 \u055c \u0c84 \u061d \u1734\u111c9", "e\u0301\u0301\u0327 \u0915\u094d\u0937 \u05e9\u05c1",
    "supercalifragilistic " + "a" * 120, "Once upon a time there was a little girl who lived in a small house near the forest.",
]


def train(model, trainer, **parts):
    tokenizer = tk.Tokenizer(model)
    for name, part in parts.items():
        setattr(tokenizer, name, part)
    root = pathlib.Path(__file__).resolve().parent.parent
    tokenizer.train([str(root / "models/tiny/prompts.txt"), str(root / "scripts/check_includes.py")], trainer)
    return tokenizer


def make_tokenizers():
    pre, norm, post = tk.pre_tokenizers, tk.normalizers, tk.processors
    alphabet = pre.ByteLevel.alphabet()
    bytes_trainer = dict(vocab_size=400, initial_alphabet=sorted(alphabet), show_progress=False)
    gpt2 = train(tk.models.BPE(), tk.trainers.BpeTrainer(special_tokens=["<s>", "</s>"], **bytes_trainer),
                 pre_tokenizer=pre.ByteLevel(add_prefix_space=False))
    gpt2.add_tokens([tk.AddedToken("<mask>", lstrip=True, normalized=False), tk.AddedToken("  ", normalized=True)])
    neox = tk.Tokenizer.from_str(gpt2.to_str())
    neox.normalizer = norm.NFC()
    neox.pre_tokenizer = pre.Sequence([pre.Digits(individual_digits=True), pre.ByteLevel(add_prefix_space=True)])
    pattern = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
    qwen2 = tk.Tokenizer.from_str(gpt2.to_str())
    qwen2.normalizer = norm.NFC()
    qwen2.pre_tokenizer = pre.Sequence([pre.Split(tk.Regex(pattern.replace(r"\p{N}{1,3}", r"\p{N}")), "isolated"),
                                        pre.ByteLevel(add_prefix_space=False, use_regex=False)])
    llama3 = tk.Tokenizer.from_str(gpt2.to_str().replace('"ignore_merges":false', '"ignore_merges":true'))
    llama3.pre_tokenizer = pre.Sequence([pre.Split(tk.Regex(pattern), "isolated"), pre.ByteLevel(add_prefix_space=False, use_regex=False)])
    llama3.post_processor = post.Sequence([post.ByteLevel(), post.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", gpt2.token_to_id("<s>"))])])
    specials = ["<unk>", "<s>", "</s>", "<mask>"] + [f"<0x{i:02X}>" for i in range(256)]
    llama = train(tk.models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True), tk.trainers.BpeTrainer(
        vocab_size=600, special_tokens=specials, show_progress=False),
        normalizer=norm.Sequence([norm.Prepend("\u2581"), norm.Replace(" ", "\u2581")]),
        post_processor=post.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)]))
    parsed = json.loads(llama.to_str())
    parsed["added_tokens"] = parsed["added_tokens"][:4]
    llama = tk.Tokenizer.from_str(json.dumps(parsed))
    metaspace = tk.Tokenizer.from_str(json.dumps(dict(parsed, normalizer=None)))
    metaspace.pre_tokenizer = pre.Metaspace(prepend_scheme="first", split=False)
    bert = train(tk.models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=100), tk.trainers.WordPieceTrainer(
        vocab_size=300, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], show_progress=False),
        normalizer=norm.BertNormalizer(), pre_tokenizer=pre.BertPreTokenizer(),
        post_processor=post.BertProcessing(("[SEP]", 3), ("[CLS]", 2)))
    cased = tk.Tokenizer.from_str(bert.to_str())
    cased.normalizer = norm.BertNormalizer(lowercase=False)
    return dict(gpt2=gpt2, neox=neox, qwen2=qwen2, llama3=llama3, llama=llama, metaspace=metaspace, bert=bert, cased=cased)


def write_tokenizers(path, made):
    cases = []
    for name, tokenizer in made.items():
        cases.append(dict(name=name, tokenizer=json.loads(tokenizer.to_str()), texts=HARD_TEXTS,
                          ids=[tokenizer.encode(text, add_special_tokens=False).ids for text in HARD_TEXTS],
                          special=tokenizer.encode("a b").ids))
    text = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    path.write_text("[\n" + text + "\n]\n")


ADDED = dict(content="once", lstrip=True, rstrip=False, normalized=False, single_word=True, special=False)
ENDS = dict(bos_token="<s>", eos_token="</s>")
# name: the tokenizer, the class that transformers loads, tokenizer_config.json.
TOKENIZER_CONFIGS = {
    "bos and eos": ("llama", tf.LlamaTokenizerFast, dict(ENDS, add_bos_token=True, add_eos_token=True)),
    "no ends": ("llama", tf.LlamaTokenizerFast, dict(ENDS, add_bos_token=False)),
    "a class that begins": ("metaspace", tf.LlamaTokenizerFast, dict(ENDS)),
    "neox with bos": ("neox", tf.GPTNeoXTokenizerFast, dict(ENDS, add_bos_token=True, unk_token="</s>")),
    "first space": ("gpt2", tf.GPT2TokenizerFast, dict(ENDS, add_prefix_space=True, unk_token="</s>")),
    "no first space": ("gpt2 spaced", tf.GPT2TokenizerFast, dict(ENDS, unk_token="</s>")),
    "cased": ("bert", tf.BertTokenizerFast, dict(do_lower_case=False)),
    "uncased": ("cased", tf.BertTokenizerFast, dict(do_lower_case=True, strip_accents=False)),
    "no chinese": ("bert", tf.DistilBertTokenizerFast, dict(tokenize_chinese_chars=False)),
    "added": ("gpt2", tf.PreTrainedTokenizerFast, dict(ENDS, added_tokens_decoder={"402": ADDED})),
    "special of the vocabulary": ("gpt2", tf.PreTrainedTokenizerFast, dict(additional_special_tokens=["th"])),
}
CONFIG_TEXTS = ["a b", "Once upon a time, once there was th\u00e9 \u4e2d\u6587</s>th", " lead"]


def write_tokenizer_configs(path, made):
    cases = []
    spaced = json.loads(made["gpt2"].to_str())
    spaced["pre_tokenizer"]["add_prefix_space"] = True
    made = dict(made, **{"gpt2 spaced": tk.Tokenizer.from_str(json.dumps(spaced))})
    for name, (tokenizer, kind, config) in TOKENIZER_CONFIGS.items():
        config = dict(config, tokenizer_class=kind.__name__)
        with tempfile.TemporaryDirectory() as folder:
            made[tokenizer].save(folder + "/tokenizer.json")
            pathlib.Path(folder, "tokenizer_config.json").write_text(json.dumps(config))
            loaded = kind.from_pretrained(folder)
            ids = [loaded(text).input_ids for text in CONFIG_TEXTS]
        cases.append(dict(name=name, tokenizer=tokenizer, config=config, texts=CONFIG_TEXTS, ids=ids))
    path.write_text("[\n" + ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases) + "\n]\n")


def main():
    folder = pathlib.Path(sys.argv[1])
    write_logits(folder / "logits.json")
    write_blocks(folder / "blocks.json")
    made = make_tokenizers()  # once: training draws among equals
    write_tokenizers(folder / "tokenizers.json", made)
    write_tokenizer_configs(folder / "tokenizer_configs.json", made)
    for family in GGUF_NAMES:
        write_gguf(folder, family)


if __name__ == "__main__":
    main()
