"""Writes GGUF files of random weights: whole (the tokenizer is SmolLM2's, models/), well-scaled, for measurements of speed and memory.

Blocks come from a pool of 8,191, a prime, so that no two rows of a matrix are alike and a file of gigabytes is written as fast as
the disk takes it.
"""
import os
import random
import struct

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VOCABULARY = os.path.join(ROOT, "models", "SmolLM2-135M-Instruct.Q4_1.gguf")
F32, Q4_0, Q4_K, Q6_K = 0, 2, 12, 14  # types of tensors
SHAPES = {Q4_0: (32, 18), Q4_K: (256, 144), Q6_K: (256, 210)}  # elements and bytes of a block
U32, F32_KEY, STRING, ARRAY = 4, 6, 8, 9  # types of keys
SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
POOL = 8191


def text(value):
    return struct.pack("<Q", len(value)) + value


class Reader:
    """Enough of GGUF to find a key's bytes."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def number(self, form):
        size = struct.calcsize(form)
        self.at += size
        return struct.unpack("<" + form, self.data[self.at - size:self.at])[0]

    def text(self):
        size = self.number("Q")
        self.at += size
        return self.data[self.at - size:self.at]

    def skip(self, kind):
        if kind == STRING:
            self.text()
        elif kind == ARRAY:
            element, count = self.number("I"), self.number("Q")
            for _ in range(count):
                self.skip(element)
        else:
            self.at += SIZES[kind]


def tokenizer_keys():
    """The tokenizer's keys of a real file as they are, and the size of its vocabulary."""
    with open(VOCABULARY, "rb") as file:
        reader = Reader(file.read(8 << 20))
    reader.at = 16
    keys, size = [], 0
    for _ in range(reader.number("Q")):
        begin = reader.at
        key, kind = reader.text(), reader.number("I")
        if key == b"tokenizer.ggml.tokens":
            size = struct.unpack("<Q", reader.data[reader.at + 4:reader.at + 12])[0]
        reader.skip(kind)
        if key.startswith(b"tokenizer."):
            keys.append(reader.data[begin:reader.at])
    return keys, size


def architecture_keys(architecture, values):
    """general.architecture and `values` (int or float) below it."""
    keys = [text(b"general.architecture") + struct.pack("<I", STRING) + text(architecture.encode())]
    for key, value in values.items():
        kind, form = (U32, "I") if isinstance(value, int) else (F32_KEY, "f")
        keys.append(text(f"{architecture}.{key}".encode()) + struct.pack("<I" + form, kind, value))
    return keys


def q4_0_block(rng, deviation):
    return struct.pack("<e", deviation / 4.6) + rng.randbytes(16)  # codes of 0 to 15 deviate by 4.6


def q4_k_block(rng, deviation):
    """Eight scales of 32 to 63, minima that centre the codes."""
    scales = [rng.randrange(32, 64) for _ in range(8)]
    step = deviation / (4.6 * 47.5)
    six_bits = bytes(scales[i] | scales[i + 4] >> 4 << 6 for i in range(4))
    low = bytes((scales[i + 4] & 15) * 17 for i in range(4))
    return struct.pack("<2e", step, 7.5 * step) + 2 * six_bits + low + rng.randbytes(128)


def q6_k_block(rng, deviation):
    """Sixteen scales of 32 to 96, of either sign."""
    scales = [rng.choice((-1, 1)) * rng.randrange(32, 97) for _ in range(16)]
    return rng.randbytes(192) + struct.pack("<16be", *scales, deviation / (18.5 * 64))


BLOCKS = {Q4_0: q4_0_block, Q4_K: q4_k_block, Q6_K: q6_k_block}


class RandomBlocks:
    """Matrices of block types, each from another place of a pool."""

    def __init__(self, seed=1):
        self.rng, self.pools = random.Random(seed), {}

    def matrix(self, kind, shape, deviation):
        """Its bytes in pieces. `shape`: [.., rows, columns]."""
        key = (kind, deviation)
        if key not in self.pools:
            self.pools[key] = b"".join(BLOCKS[kind](self.rng, deviation) for _ in range(POOL))
        pool, (elements, size) = self.pools[key], SHAPES[kind]
        left = elements_of(shape) // elements * size
        at = self.rng.randrange(POOL) * size
        while left > 0:
            piece = pool[at:at + left]
            yield piece
            left -= len(piece)
            at = 0

    def normal(self, shape, deviation):
        """f32 of a normal distribution; deviation 0: ones."""
        count = elements_of(shape)
        values = [1.0] * count if deviation == 0 else [self.rng.gauss(0, deviation) for _ in range(count)]
        yield struct.pack(f"<{count}f", *values)


def elements_of(shape):
    count = 1
    for size in shape:
        count *= size
    return count


def bytes_of(kind, shape):
    if kind == F32:
        return 4 * elements_of(shape)
    elements, size = SHAPES[kind]
    assert shape[-1] % elements == 0, (kind, shape)
    return elements_of(shape) // elements * size


def write(path, keys, tensors, seed=1):
    """`tensors`: (name, type, shape with the columns last, standard deviation). Returns the file's size."""
    infos, offset = b"", 0
    for name, kind, shape, _ in tensors:
        infos += text(name.encode()) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *reversed(shape), kind, offset)
        offset += (bytes_of(kind, shape) + 31) // 32 * 32
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys)) + b"".join(keys) + infos
    blocks = RandomBlocks(seed)
    with open(path, "wb") as file:
        file.write(head + bytes(-len(head) % 32))
        for _, kind, shape, deviation in tensors:
            for piece in blocks.normal(shape, deviation) if kind == F32 else blocks.matrix(kind, shape, deviation):
                file.write(piece)
            file.write(bytes(-bytes_of(kind, shape) % 32))
    return os.path.getsize(path)
