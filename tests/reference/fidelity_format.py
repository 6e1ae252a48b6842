"""The fidelity reference files: layout, and the bucketed KL divergence that every engine is measured by.

Layout, little endian: "IFID", u32 version 1, u32 vocab_size, u32 top_k, u32 num_passages; then for each passage u32 num_tokens,
u32 ids[num_tokens], and for each of its tokens, in order, top_k ids of 3 bytes and top_k + 1 log-probabilities as u16
(value = -u / 2048): the top_k most likely next tokens, best first, then the logarithm of all the rest together.

KL(reference || engine) is taken over top_k + 1 classes: the reference's top_k tokens and "everything else". Merging
classes can only lower a KL divergence (data-processing inequality), and by little where the rest holds little mass.
"""
import numpy as np

MAGIC, VERSION, TOP_K, STEP = b"IFID", 1, 256, 2048.0


def write(path, vocab_size, passages):
    """passages: list of (ids [n], top_ids [n, TOP_K], logprobs [n, TOP_K + 1])."""
    with open(path, "wb") as f:
        f.write(MAGIC + np.array([VERSION, vocab_size, TOP_K, len(passages)], "<u4").tobytes())
        for ids, top_ids, logprobs in passages:
            f.write(np.array([len(ids)], "<u4").tobytes() + np.asarray(ids, "<u4").tobytes())
            fixed = np.clip(np.rint(-logprobs * STEP), 0, 65535).astype("<u2")
            for row_ids, row in zip(np.asarray(top_ids, "<u4"), fixed):
                f.write(row_ids.view(np.uint8).reshape(-1, 4)[:, :3].tobytes() + row.tobytes())


def read(path):
    """[(ids, top_ids, probabilities [n, TOP_K + 1] summing to one)], vocab_size."""
    data = open(path, "rb").read()
    assert data[:4] == MAGIC
    version, vocab_size, top_k, num_passages = np.frombuffer(data, "<u4", 4, 4)
    assert version == VERSION and top_k == TOP_K
    at, passages, row_bytes = 20, [], TOP_K * 3 + (TOP_K + 1) * 2
    for _ in range(num_passages):
        n = int(np.frombuffer(data, "<u4", 1, at)[0])
        ids = np.frombuffer(data, "<u4", n, at + 4).astype(np.int64)
        at += 4 + 4 * n
        rows = np.frombuffer(data, np.uint8, n * row_bytes, at).reshape(n, row_bytes)
        at += n * row_bytes
        low = rows[:, : TOP_K * 3].reshape(n, TOP_K, 3).astype(np.int64)
        fixed = np.ascontiguousarray(rows[:, TOP_K * 3 :]).view("<u2")
        p = np.exp(fixed / -STEP)
        passages.append((ids, low @ np.array([1, 256, 65536]), p / p.sum(1, keepdims=True)))
    assert at == len(data)
    return passages, int(vocab_size)


def bucketed_kl(top_ids, p, logits):
    """KL in nats per position of logits [n, vocab] from the reference classes (top_ids, p)."""
    x = logits.astype(np.float64)
    x -= x.max(1, keepdims=True)
    e = np.exp(x)
    inside = np.take_along_axis(e, top_ids, 1)
    total = e.sum(1)
    np.put_along_axis(e, top_ids, 0.0, 1)
    rest = np.maximum(e.sum(1), 1e-300)
    log_q = np.concatenate([np.log(np.maximum(inside, 1e-300)), np.log(rest)[:, None]], 1) - np.log(total)[:, None]
    return (p * (np.log(p) - log_q)).sum(1)


def full_kl(reference_logits, logits):
    """KL in nats per position over the whole vocabulary, in float64."""
    def log_softmax(z):
        z = z.astype(np.float64)
        z -= z.max(1, keepdims=True)
        return z - np.log(np.exp(z).sum(1, keepdims=True))
    log_p = log_softmax(reference_logits)
    return (np.exp(log_p) * (log_p - log_softmax(logits))).sum(1)
