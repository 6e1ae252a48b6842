"""Makes tests/golden/embeddings/minilm.{json,npy}: sentence-transformers' float32 vectors of 50 texts, one at a time.

    python make_embeddings.py   (sentence-transformers; needs models/all-MiniLM-L6-v2)
"""
import json
import os

import numpy as np
import sentence_transformers
import torch

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
OUT = os.path.join(ROOT, "tests", "golden", "embeddings")

SENTENCES = [
    "a", "?", "Yes.", "42", "Hello, world!", "hello world", "HELLO WORLD", "café crème", "CAFÉ CRÈME", "naïve façade",
    "The cat sat on the mat.", "A cat was sitting on a rug.", "Interest rates rose again in the second quarter.",
    "How do I reset my password?", "I forgot my login, what should I do?", "Where is the nearest train station?",
    "The ship sailed at dawn, and nobody on the quay looked up.", "It's raining; we'll stay in, won't we?",
    "def add(a, b):\n    return a + b", "SELECT name FROM users WHERE age > 30 ORDER BY name;",
    "for (int i = 0; i < n; ++i) sum += values[i];", '{"name": "Ada", "age": 36, "languages": ["en", "fr"]}',
    "E = mc^2", "∫ f(x) dx from 0 to 1 equals ½", "x ≤ y ⇒ −y ≤ −x", "The price is $1,299.99 (incl. 19% VAT).",
    "Call +44 20 7946 0018 before 17:30 on 2031-04-18.", "https://example.org/a/b?c=d&e=f#g", "user@example.com",
    "今天天气很好。", "我们去公园散步吧，然后喝一杯茶。", "東京は今日も雪です。", "오늘은 도서관이 쉬는 날이다.",
    "Привет, как дела?", "Καλημέρα κόσμε", "مرحبا بالعالم", "שלום עולם", "नमस्ते दुनिया", "สวัสดีชาวโลก", "Zażółć gęślą jaźń",
    "🙂🚲🌧️ emoji 👩‍🚀", "tab\tand\nnewline   and   spaces", "  leading and trailing spaces  ", "pneumonoultramicroscopicsilicovolcanoconiosis",
    "zero\u200bwidth and soft\u00adhyphen", "(a) brackets [b] and {c}, <d> and \"e\" 'f' `g`",
    "An encoder reads a whole sentence at once and answers with a single vector, so that sentences which mean nearly the"
    " same thing lie close together even if they share few words.",
    "Swifts spend nearly their whole life in the air. They eat, drink and sleep on the wing, and a young bird that leaves"
    " the nest in July may not touch anything solid again for two or three years. They breed under the eaves of old houses"
    " and in the cracks of towers; because modern buildings are smooth and sealed, many towns now fit hollow bricks.",
    " ".join(f"Item {i}: weigh it twice, write it down, put it back." for i in range(1, 13)),
    " ".join(["river stone bread window ladder cloud"] * 38),
]


def main():
    assert len(SENTENCES) == 50
    torch.set_grad_enabled(False)
    model = sentence_transformers.SentenceTransformer(os.path.join(ROOT, "models", "all-MiniLM-L6-v2"), device="cpu")
    vectors = np.stack([model.encode(s, convert_to_numpy=True) for s in SENTENCES]).astype(np.float32)
    ids = [model.tokenizer(s)["input_ids"] for s in SENTENCES]
    assert max(map(len, ids)) <= model.max_seq_length and vectors.shape == (50, 384)
    os.makedirs(OUT, exist_ok=True)
    np.save(os.path.join(OUT, "minilm.npy"), vectors)
    with open(os.path.join(OUT, "minilm.json"), "w", encoding="utf-8") as f:
        json.dump({"model": "all-MiniLM-L6-v2", "vectors": "minilm.npy", "cases": [
            {"text": s, "input_ids": i} for s, i in zip(SENTENCES, ids)]}, f, ensure_ascii=False, indent=0)
        f.write("\n")
    print(f"{len(SENTENCES)} texts, {min(map(len, ids))} to {max(map(len, ids))} tokens, norms {np.linalg.norm(vectors, axis=1).round(6).min()}")


if __name__ == "__main__":
    main()
