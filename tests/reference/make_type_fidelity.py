"""Measures every GGUF block type: KL from float32 of inferd and of llama.cpp on the same file. Prints rows for docs/fidelity.md.

    python make_type_fidelity.py --ours MODEL_LOGITS --peer PEER_LOGITS --quantizer PEER_QUANTIZE --scratch DIR
                                 [--model FILE] [--types Q4_0,Q4_K] [--every N] [--passages N] [--threads N]
    (torch, transformers, gguf, numpy)

For each type, the layers of the model (SmolLM2, or another file of models/) are widened and quantised anew by ggml's own quantisers (PEER_QUANTIZE): every matrix whose
rows divide into blocks of the type; for blocks of 256 that is ffn_down alone in both models. --every N takes the matrices of each Nth layer only: the
lattice types take ggml minutes. All else is F16, so what is measured is the type's
arithmetic. The reference is transformers in float32 on the widened blocks of that very file.
"""
import argparse
import os
import subprocess
import tempfile

import fidelity_format
import gguf
import gguf_reference
import numpy as np
import torch
from make_fidelity import ROOT, passages
from make_peer_fidelity import peer_logits

TYPES = ["F16", "Q8_0", "Q6_K", "Q5_0", "Q5_1", "Q5_K", "Q4_0", "Q4_1", "Q4_K", "IQ4_NL", "IQ4_XS", "MXFP4", "Q3_K", "IQ3_S",
         "IQ3_XXS", "Q2_K", "IQ2_S", "IQ2_XS", "IQ2_XXS", "TQ2_0", "TQ1_0", "IQ1_M", "IQ1_S"]


def quantize(values, kind, quantizer):
    rows, columns = values.shape
    done = subprocess.run([quantizer, str(int(kind)), str(columns)], input=values.astype("<f4").tobytes(),
                          stdout=subprocess.PIPE, check=True)
    return np.frombuffer(done.stdout, np.uint8).reshape(rows, -1)


def chosen(name, every):
    return name.startswith("blk.") and int(name.split(".")[1]) % every == 0


def write_file(source, path, kind, quantizer, every):
    """The source with its layers in `kind`; returns how many matrices are."""
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(path, reader.fields["general.architecture"].contents())
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name in ("general.architecture", "general.file_type"):
            continue
        sub_type = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(name, field.contents(), field.types[0], sub_type)
    block = gguf.GGML_QUANT_SIZES[kind][0]
    count = 0
    for tensor in reader.tensors:
        shape = [int(n) for n in reversed(tensor.shape)]
        values = gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32).reshape(shape)
        if len(shape) == 1:
            writer.add_tensor(tensor.name, values)
        elif kind != gguf.GGMLQuantizationType.F16 and chosen(tensor.name, every) and shape[1] % block == 0:
            writer.add_tensor(tensor.name, quantize(values, kind, quantizer), raw_dtype=kind)
            count += 1
        else:
            writer.add_tensor(tensor.name, values.astype(np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return count


def logits_of(command, ids, vocab_size):
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        out = [peer_logits(process, one, vocab_size) for one in ids]
        process.stdin.close()
    return out


def measure(path, ids, args):
    model = gguf_reference.load_model(path)
    exact = [model(torch.tensor(one[None].astype(np.int64))).logits[0].numpy() for one in ids]
    del model
    out = []
    for command in ([args.ours, path, str(args.threads)], [args.peer, path, str(args.threads)]):
        found = logits_of(command, ids, exact[0].shape[1])
        kl = np.concatenate([fidelity_format.full_kl(a, b) for a, b in zip(exact, found)])
        same = np.concatenate([a.argmax(1) == b.argmax(1) for a, b in zip(exact, found)])
        out += [kl.mean(), kl.std() / np.sqrt(len(kl)), 100 * same.mean()]
    return out


def main():
    parser = argparse.ArgumentParser()
    for name in ("ours", "peer", "quantizer", "scratch"):
        parser.add_argument("--" + name, required=True)
    parser.add_argument("--model", default="SmolLM2-135M-Instruct.Q4_1.gguf", help="a file of models/")
    parser.add_argument("--types", default=",".join(TYPES))
    parser.add_argument("--every", type=int, default=1, help="layers from one quantised to the next")
    parser.add_argument("--passages", type=int, default=5, help="of the 20, evenly chosen")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_grad_enabled(False)
    torch.set_num_threads(args.threads)
    source = os.path.join(ROOT, "models", args.model)
    tokenizer = gguf_reference.load_tokenizer(source)
    texts = passages()
    chosen = [texts[i * len(texts) // args.passages][1] for i in range(args.passages)]
    ids = [np.array(tokenizer.encode(text, add_special_tokens=False).ids) for text in chosen]
    print(f"{sum(len(one) for one in ids)} positions")
    print("| type | bits a weight | matrices | inferd: KL | top-1 | llama.cpp: KL | top-1 | ratio |\n|---|---|---|---|---|---|---|---|")
    for name in args.types.split(","):
        kind = gguf.GGMLQuantizationType[name]
        block, size = gguf.GGML_QUANT_SIZES[kind]
        with tempfile.NamedTemporaryFile(dir=args.scratch, suffix=".gguf") as file:
            count = write_file(source, file.name, kind, args.quantizer, args.every)
            ours, our_error, our_top, peer, peer_error, peer_top = measure(file.name, ids, args)
        print(f"| {name} | {8 * size / block:g} | {count} | {ours:.6f} ± {our_error:.6f} | {our_top:.2f}% | "
              f"{peer:.6f} ± {peer_error:.6f} | {peer_top:.2f}% | {ours / peer:.2f} |", flush=True)


if __name__ == "__main__":
    main()
