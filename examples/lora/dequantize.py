"""Turns a GGUF file into a Hugging Face folder of F16 weights, so that PEFT can train on it.

    python dequantize.py MODEL.gguf OUT_FOLDER

Needs torch, transformers (5.24 or later) and gguf. inferd itself serves the GGUF file as it is, with the adapter trained on the folder.
"""
import argparse
import os

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("gguf")
    parser.add_argument("out")
    args = parser.parse_args()
    folder, name = os.path.split(os.path.abspath(args.gguf))
    AutoTokenizer.from_pretrained(folder, gguf_file=name).save_pretrained(args.out)
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32,
                                                 quantization_config=GgufConfig(name, dequantize=True))
    model.to(torch.float16).save_pretrained(args.out)
    print(f"saved {args.out}")


if __name__ == "__main__":
    main()
