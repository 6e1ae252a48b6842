#!/usr/bin/env python3
"""Writes tests/golden/tokenizer/*.json and tests/golden/spm/*.model: what Hugging Face tokenizers and sentencepiece make
of a hard corpus. Needs tokenizers, sentencepiece, gguf; the models under models/ for their vocabularies.
Usage: make_tokenizer_cases.py [--train]   (--train also makes the .model files anew)"""
import json
import pathlib
import random
import sys

import gguf
import sentencepiece as spm
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

ROOT = pathlib.Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests/golden"
OUT = GOLDEN / "tokenizer"
SPM = GOLDEN / "spm"
PQ = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
BLOOM = " ?[^(\\s|[.,!?…。，、।۔،])]+"


def corpus():
    texts = [
        "", " ", "  ", "\n", "\t", "\r\n", "a", "Hello, world!", " leading", "trailing ", "  two  inner  ",
        "The quick brown fox jumps over the lazy dog.", "Hello\n\n\nworld\n", " \n \n\t \n x", "a\u00a0b\u2003c\u3000d\u202fe",
        "x\u0085y\u2028z\u2029w\u180ev\u200bu\ufefft", "tab\tsep\t\tvalues\t", "      six", "\n      six", "    \n    four",
        "I'm you're he'll WE'VE they'D it'S 'tis ''s ' s don't", "rock'n'roll's \u2019s I\u2019m \u017f'\u017f'ſ",
        "0 1 12 123 1234 12345 1234567890", "3.14159 1,000,000.50 1e-9 0x7fff 10:45 2024-02-30", "١٢٣ ४५६ ⅷ ² ½ ①② 𝟘𝟙",
        "price: $12.99 (was €15,00!) #1 & 50% off?!...", "user@example.com https://example.com/a_b?c=d&e=f#g",
        "snake_case camelCase PascalCase kebab-case SCREAMING_CASE", "def f(x: int) -> str:\n    return f\"{x!r}\"  # ok\n",
        "for (int i = 0; i < n; ++i) {\n\tsum += a[i] * b[i];\n}\n", "#include <vector>\n\n\nint main() { return 0; }\r\n",
        "SELECT * FROM t WHERE a='it''s' AND b<>\"q\";", "<div class=\"a b\">&nbsp;</div>", "{\"a\": [1, 2, {\"b\": null}]}",
        "你好，世界！今天天气怎么样？", "人工智能是计算机科学的一个分支", "中文English混合text，标点！？", "「東京都」は日本の首都です。", "カタカナ ﾊﾝｶｸ ひらがな",
        "안녕하세요 세계", "한국어 자모 ᄒ\u1161\u11ab", "Привет, как дела? Ёжик", "Γειά σου Κόσμε ΣΊΣΥΦΟΣ ς", "مرحبا بالعالم، كيف الحال؟",
        "שלום עולם", "नमस्ते दुनिया। क्षत्रिय", "สวัสดีชาวโลก กำลัง ภาษาไทย", "Xin chào thế giới Việt Nam", "தமிழ் മലയാളം ಕನ್ನಡ తెలుగు",
        "İstanbul ısı ŞİŞLİ ß ẞ ﬁ ﬂ Ǆ ǅ", "café cafe\u0301 nai\u0308ve Å A\u030a \u212b", "q\u0307\u0323 q\u0323\u0307 \u1e0b\u0323 d\u0323\u0307",
        "e\u0301\u0301\u0301\u0327 \u0301start >\u0338 <\u0338 =\u0338", "Zalgo: Z\u0351\u036b\u0343a\u0300\u0301\u0302l\u0303\u0304g\u0305\u0306o\u0307\u0308",
        "\u1100\u1161\u11a8 \uac00\u11a8 \u0958 \u09dc \ufb1d", "🙂🚀 👩‍💻 👨‍👩‍👧‍👦 🏳️‍🌈 🇩🇪🇫🇷 ☕️ ✌🏽", "❤️‍🔥 a🙂b 🙂🙂🙂", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𐍈 𠀀 \U0002f800",
        "ﬀ ① ㎏ Ａｂｃ１２３ ｶﾞ ㍿ ™ … ‥ ﷺ", "fullwidth：！？（）", "\u0001\u0002\u001f\u007f\u0080\u009f", "a\u0000b", "\ue000 \uf8ff \u0378 \U000e0001 \U0010ffff",
        "\ufffd replacement \ufffe", "soft\u00adhyphen zero\u200dwidth\u200cjoin \u2060", "a\u0300", "\u0300", "…—–‐‑‒―", "“quotes” ‘single’ «guillemets» „low“",
        "= == === ==== ===== ======", "-- --- ---- | || |||", "()[]{}<>\\/|`~!@#$%^&*_+-=;:'\",.?", "!!!???...,,,;;;:::", "....!!!!????----====",
        "a" * 300, " " * 300, "\n" * 50, "ab" * 200, "1" * 300, "é" * 120, "你" * 150, "🙂" * 60, "=" * 300, "a " * 150, "xyz\n" * 60, " \t" * 60,
        "word " * 80, "Aa1! " * 60, "supercalifragilisticexpialidocious" * 8, "https://" + "path/" * 40, "A" * 101 + " " + "b" * 100 + " " + "c" * 99,
        "<|im_start|>user\nhi<|im_end|>\n", "<|endoftext|>", "x<|endoftext|>y <|endoftext|> z", "[CLS] a [SEP] [MASK] b [UNK]", "<s>a</s> <unk> <pad>",
        "<tool_call>\n{\"name\": \"f\"}\n</tool_call>", "<|im_start|><|im_start|>", "<|im_start", "|im_end|>", "<|eot_id|><|begin_of_text|>", "<think>\n\n</think>",
        "▁ ▁▁a ▁b", "<0x0A> <0x00>", "Ġ Ċ â ł", "##ing ##", "a\\n\\tb", "\\u00e9", "%20%C3%A9",
        "She said: \"I don't think so,\" and left... (at 10:45)", "Mr. O'Neill's cat isn't 'bad', y'all'd've known.",
        "mixed العربية and English 中文 и русский עברית", "  \u3000 \u00a0 mixed \u2009spaces\u200a ", "line1\rline2\r\nline3\n\rline4",
        "x = 1;  // comment\n\n\n\n\n        y = 2;\n", "| a | b |\n|---|---|\n| 1 | 2 |\n", "- [ ] todo\n- [x] done\n  * nested\n", "1. one\n2. two\n10. ten",
        "E = mc² ∑∫√∞≠≤≥ ∀x∈ℝ α→β", "H₂O CO₂ x₁ⁿ", "C++ C# F# .NET node.js v1.2.3-rc.4+build", "a,b;c:d.e!f?g", "9.99.99", "...a...", "(((", "'", "''", "'''", "\"",
        "aA1 bB2  cC3   dD4    ", "ＱＵＩＣＫ　ＢＲＯＷＮ", "ÀÉÎÕÜ àéîõü ÇçÑñ", "ŁódŹ łÓDŹ Ħħ Øø", "ﻼ ﷽", "𓀀𓁐", "\U0001f469\u200d\U0001f52c", "ᏣᎳᎩ ꮳꮃꭹ", "ა Ა",
    ]
    rng = random.Random(20261)
    pools = ["abcdefghij XYZ", " \t\n\r", "0123456789", ".,;:!?'\"-_()[]{}<>|/\\@#$%^&*+=~`", "éüñçßøåÄÖ", "你好世界中文字", "абвгд", "עברית", "กขคงจำ",
             "🙂🚀👩‍💻", "\u0301\u0308\u0323\u200d", "\u00a0\u3000\u2028\u0085\u200b", "한국어가"]
    for i in range(60):
        pieces = []
        for _ in range(rng.randint(3, 25)):
            pool = pools[min(int(rng.expovariate(0.35)), len(pools) - 1)]
            pieces.append("".join(rng.choice(pool) for _ in range(rng.randint(1, 5))))
        texts.append("".join(pieces))
    return texts


def from_gguf(path, normalizer, pre):
    fields = gguf.GGUFReader(path).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    types = fields["tokenizer.ggml.token_type"].contents()
    merges = [tuple(m.split(" ", 1)) for m in fields["tokenizer.ggml.merges"].contents()]
    tokenizer = Tokenizer(models.BPE({t: i for i, t in enumerate(tokens) if types[i] != 5}, merges))
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre
    tokenizer.decoder = decoders.ByteLevel()
    for i, t in enumerate(tokens):
        if types[i] == 3:
            tokenizer.add_special_tokens([AddedToken(t, normalized=False, special=True)])
        elif types[i] == 4:
            tokenizer.add_tokens([AddedToken(t, normalized=False)])
    return tokenizer


def write(name, texts, encode, decode, source):
    rows = []
    for i, text in enumerate(texts):
        ids = encode(text)
        decoded = decode(ids)
        rows.append([i, ids] if decoded == text else [i, ids, decoded])
    (OUT / f"{name}.json").write_text(json.dumps({"source": source, "cases": rows}, separators=(",", ":")) + "\n")
    print(name, len(rows), (OUT / f"{name}.json").stat().st_size)


def write_hf(name, texts, tokenizer, source):
    tokenizer.no_truncation()
    tokenizer.no_padding()
    write(name, texts, lambda t: tokenizer.encode(t, add_special_tokens=False).ids,
          lambda ids: tokenizer.decode(ids, skip_special_tokens=False), source)


def byte_level_variant(pre, normalizer=None, added=(), post=None, ignore_merges=False):
    """The small byte-level vocabulary of the llama3 golden model under another pipeline."""
    d = json.loads((GOLDEN / "models/llama3/tokenizer.json").read_text())
    model = d["model"]
    merges = [tuple(m) if isinstance(m, list) else tuple(m.split(" ")) for m in model["merges"]]
    t = Tokenizer(models.BPE(model["vocab"], merges, ignore_merges=ignore_merges))
    t.pre_tokenizer = pre
    if normalizer:
        t.normalizer = normalizer
    t.decoder = decoders.ByteLevel()
    for token in added:
        (t.add_special_tokens if token.special else t.add_tokens)([token])
    if post:
        t.post_processor = post
    return t


def llama2_variant(normalizer, pre, decoder, byte_fallback=True):
    d = json.loads((GOLDEN / "models/llama2/tokenizer.json").read_text())
    model = d["model"]
    vocab = {k: v for k, v in model["vocab"].items() if byte_fallback or not k.startswith("<0x")}
    merges = [tuple(m) for m in model["merges"]]
    t = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=byte_fallback))
    if normalizer:
        t.normalizer = normalizer
    if pre:
        t.pre_tokenizer = pre
    t.decoder = decoder
    t.add_special_tokens([AddedToken(s, normalized=False, special=True) for s in ("<unk>", "<s>", "</s>")])
    return t


def variants():
    split = lambda pattern, behavior, invert=False: pre_tokenizers.Split(Regex(pattern), behavior, invert)
    raw = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    seq = pre_tokenizers.Sequence
    spm_decoder = lambda: decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    unigram = spm.SentencePieceProcessor(model_file=str(SPM / "unigram_nfkc.model"))
    pieces = [(unigram.id_to_piece(i), unigram.get_score(i)) for i in range(unigram.get_piece_size())]
    uni = Tokenizer(models.Unigram(pieces, unk_id=unigram.unk_id()))
    uni.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    uni.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    uni.decoder = decoders.Metaspace(prepend_scheme="always")
    uni.add_special_tokens(["<unk>", "<s>", "</s>"])
    yield "bloom_like", byte_level_variant(seq([split(BLOOM, "isolated"), raw]))
    yield "gpt2_like", byte_level_variant(pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=True),
                                         post=processors.RobertaProcessing(("<|end_of_text|>", 385), ("<|begin_of_text|>", 384)),
                                         added=[AddedToken("<|begin_of_text|>", special=True), AddedToken("<|end_of_text|>", special=True)])
    yield "merged_previous", byte_level_variant(seq([split(r"[\s\p{P}]", "merged_with_previous"), raw]))
    yield "merged_next", byte_level_variant(seq([split(r"\s", "merged_with_next"), raw]))
    yield "contiguous", byte_level_variant(seq([split(r"\p{N}|\p{P}", "contiguous"), pre_tokenizers.Digits(False), raw]))
    yield "removed", byte_level_variant(seq([split(r"\p{L}+|\p{N}", "removed", True), raw]))
    yield "words", byte_level_variant(seq([pre_tokenizers.Whitespace(), raw]))
    yield "punctuation", byte_level_variant(seq([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation("contiguous"), raw]))
    yield "string_split", byte_level_variant(seq([pre_tokenizers.Split(" ", "merged_with_next"), raw]), normalizer=normalizers.NFKD(), ignore_merges=True)
    yield "normalized_added", byte_level_variant(
        seq([split(PQ, "isolated"), raw]), normalizer=normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()]),
        added=[AddedToken("Quick", normalized=True), AddedToken("<|IM_START|>", normalized=True), AddedToken("[MASK]", lstrip=True, rstrip=True, normalized=False, special=True),
               AddedToken("cat", single_word=True, normalized=False), AddedToken("world", single_word=True, normalized=True, rstrip=True)])
    yield "blank_added", byte_level_variant(seq([split(PQ, "isolated"), raw]), added=[AddedToken("  ", normalized=False), AddedToken("    ", normalized=False), AddedToken("\n\n", normalized=False)])
    yield "accents", byte_level_variant(raw, normalizer=normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents(), normalizers.Strip(), normalizers.Replace("o", "00"), normalizers.Replace(Regex(r"\d{2}"), "#")]))
    yield "metaspace_first", llama2_variant(None, pre_tokenizers.Metaspace(prepend_scheme="first", split=False), spm_decoder())
    yield "metaspace_never", llama2_variant(None, pre_tokenizers.Metaspace(prepend_scheme="never", split=True), decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]))
    yield "no_fallback", llama2_variant(normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]), None, spm_decoder(), byte_fallback=False)
    yield "unigram_json", uni


def train():
    SPM.mkdir(exist_ok=True)
    text = [line for line in (ROOT / "tests/reference/fidelity_text.txt").read_text().splitlines() if line.strip()]
    text += [t.replace("\n", " ").replace("\0", "") for t in corpus()] * 3
    common = dict(sentence_iterator=None, hard_vocab_limit=False, minloglevel=2, num_threads=1)
    common.pop("sentence_iterator")
    for name, options in {
        "bpe_fallback": dict(model_type="bpe", vocab_size=900, byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False,
                             character_coverage=0.98, user_defined_symbols=["<tool>", "\t\t"], control_symbols=["<ctrl>"], allow_whitespace_only_pieces=True),
        "bpe_plain": dict(model_type="bpe", vocab_size=700, normalization_rule_name="nfkc_cf", character_coverage=0.98),
        "unigram_nfkc": dict(model_type="unigram", vocab_size=900, normalization_rule_name="nmt_nfkc", character_coverage=0.98),
        "unigram_fallback": dict(model_type="unigram", vocab_size=900, byte_fallback=True, normalization_rule_name="identity", character_coverage=0.98,
                                 treat_whitespace_as_suffix=True, add_dummy_prefix=True),
    }.items():
        with open(SPM / f"{name}.model", "wb") as out:
            spm.SentencePieceTrainer.train(sentence_iterator=iter(text), model_writer=out, **common, **options)
        print(name, (SPM / f"{name}.model").stat().st_size)


def main():
    OUT.mkdir(exist_ok=True)
    (OUT / "json").mkdir(exist_ok=True)
    if "--train" in sys.argv:
        train()
    texts = corpus()
    (OUT / "corpus.json").write_text(json.dumps(texts, separators=(",", ":")) + "\n")
    seq = pre_tokenizers.Sequence
    write_hf("smollm2", texts, from_gguf(ROOT / "models/SmolLM2-135M-Instruct.Q4_1.gguf", None,
             seq([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])), "tokenizers")
    write_hf("qwen25", texts, from_gguf(ROOT / "models/Qwen2.5-Coder-0.5B-Instruct.Q4_K_M.gguf", normalizers.NFC(),
             seq([pre_tokenizers.Split(Regex(PQ), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])), "tokenizers")
    write_hf("minilm", texts, Tokenizer.from_file(str(ROOT / "models/all-MiniLM-L6-v2/tokenizer.json")), "tokenizers")
    for name in ("llama2", "llama3", "qwen2", "bert", "bert_cls"):
        write_hf(f"golden_{name}", texts, Tokenizer.from_file(str(GOLDEN / "models" / name / "tokenizer.json")), "tokenizers")
    for name, tokenizer in variants():
        tokenizer.save(str(OUT / "json" / f"{name}.json"), pretty=False)
        write_hf(f"json_{name}", texts, tokenizer, "tokenizers")
    for name in ("bpe_fallback", "bpe_plain", "unigram_nfkc", "unigram_fallback"):
        sp = spm.SentencePieceProcessor(model_file=str(SPM / f"{name}.model"))
        write(f"spm_{name}", texts, sp.encode, sp.decode, "sentencepiece")
    sp = spm.SentencePieceProcessor(model_file=str(GOLDEN / "models/llama2/tokenizer.model"))
    write("spm_llama2", texts, sp.encode, sp.decode, "sentencepiece")


if __name__ == "__main__":
    main()
