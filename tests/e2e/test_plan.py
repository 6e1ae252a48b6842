"""`inferd plan`: bytes, divisions and what fits, against the files' own sizes."""
import os
import re
import subprocess

from daemon import MINILM, ROOT, SMOLLM2, binary

QWEN2 = os.path.join(ROOT, "tests", "golden", "models", "qwen2")  # heads of 16


def plan(*arguments):
    return subprocess.run([binary(), "plan", *arguments], capture_output=True, text=True, timeout=60)


def test_a_model_on_the_host():
    done = plan(SMOLLM2, "--gpu-memory", "0")
    assert done.returncode == 0, done.stderr
    assert "30 layers" in done.stdout and "(also the output)" in done.stdout and "gpu_layers: 0 of 30" in done.stdout
    # 30 layers of 3 key and 3 value heads of 64 f16.
    assert "22.5 KiB a token" in done.stdout
    assert "12.0 KiB a token" in plan(SMOLLM2, "--gpu-memory", "0", "--kv-cache-type", "q8_0").stdout  # 17/32
    assert "11.6 KiB a token" in plan(SMOLLM2, "--gpu-memory", "8GiB", "--kv-cache-type", "fp8").stdout  # 66/128
    weights = float(re.search(r"weights    ([0-9.]+) MiB", done.stdout)[1])
    assert 0.9 < weights * 2**20 / os.path.getsize(SMOLLM2) < 1


def test_a_fp8_cache_is_refused_where_serve_refuses_it():
    for arguments in (("--gpu-memory", "0"), ("--gpu-memory", "2GiB", "--gpu-layers", "7")):
        done = plan(SMOLLM2, "--kv-cache-type", "fp8", *arguments)
        assert done.returncode == 78 and "fp8 is kept on NVIDIA GPUs only" in done.stderr and "q8_0" in done.stderr
    done = plan(SMOLLM2, "--kv-cache-type", "fp9")
    assert done.returncode == 64 and "--kv-cache-type" in done.stderr and "fp8" in done.stderr


def test_the_smaller_the_gpu_the_fewer_its_layers():
    layers = []
    for size in ("2GiB", "120MiB", "100MiB", "90MiB", "10MiB"):
        done = plan(SMOLLM2, "--gpu-memory", size, "--context-length", "512")
        assert done.returncode == 0, done.stderr
        layers.append(int(re.search(r"gpu_layers: (\d+) of 30", done.stdout)[1]))
    assert layers[0] == 30 and layers[-1] == 0 and layers == sorted(layers, reverse=True) and len(set(layers)) >= 4


def test_a_division_by_hand_that_does_not_fit_says_so():
    done = plan(SMOLLM2, "--gpu-memory", "50MiB", "--gpu-layers", "all")
    assert done.returncode == 0 and "DOES NOT FIT" in done.stdout
    done = plan(SMOLLM2, "--gpu-memory", "2GiB", "--gpu-layers", "7")
    assert "the last 7 layers, output" in done.stdout and "the first 23 layers, embedding" in done.stdout
    assert "DOES NOT FIT" not in done.stdout


def test_quantising_at_load_is_planned_with():
    # 2 layers of q 64 x 64, k and v 32 x 64, o 64 x 64, three of 128 x 64; two norms of 64 and biases of 128, BF16.
    matrices = 2 * (64 * 64 * 2 + 32 * 64 * 2 + 3 * 128 * 64)
    rest = 2 * 2 * (2 * 64 + 128) + 2 * 64
    embedding = 448 * 64
    for to, bits in (("none", 16), ("int8", 8.5), ("int4", 5)):
        done = plan(QWEN2, "--quantization", to, "--gpu-memory", "0")
        assert done.returncode == 0, done.stderr
        expected = matrices * bits / 8 + rest + embedding * (2 if to == "none" else 8.5 / 8)
        assert f"weights    {expected / 2**20:.1f} MiB" in done.stdout, done.stdout
        assert (f"MiB ({to})" in done.stdout and f"{to} from BF16" in done.stdout) == (to != "none")
    done = plan(SMOLLM2, "--quantization", "int4")
    assert done.returncode == 78 and "quantised already" in done.stdout + done.stderr


def test_a_model_divided_between_gpus():
    llama2 = os.path.join(ROOT, "tests", "golden", "models", "llama2")
    done = plan(llama2, "--tensor-parallel", "2", "--gpu-memory", "100MiB", "--kv-cache-type", "f16")
    assert done.returncode == 0, done.stderr
    # F16, 2 layers: q, k, v, o of 64 x 64, three of 64 x 128, halved, two norms; embedding whole, output of 576 halved.
    own = 2 * ((4 * 64 * 64 + 3 * 64 * 128) + 2 * 2 * 64) + 576 * 64 * 2 + 576 * 64 + 2 * 64
    assert f"each GPU   {own / 2**20:.1f} MiB of weights, KV cache 0.2 KiB a token" in done.stdout, done.stdout
    assert "each of 2 GPUs              100.0 MiB" in done.stdout
    assert "its part of all 2 layers, embedding, output" in done.stdout and "gpu_layers: 2 of 2" in done.stdout
    # A token takes half as much of each, so twice as many fit.
    tokens = [int(re.search(r"KV cache for (\d+) tokens", plan(llama2, "--gpu-memory", "100MiB", *more).stdout)[1])
              for more in ((), ("--tensor-parallel", "2"))]
    assert 1.9 < tokens[1] / tokens[0] < 2.1


def test_what_serve_refuses_to_divide_plan_refuses_too():
    models = os.path.join(ROOT, "tests", "golden", "models")
    for name in ("bloom", "chatglm1", "qwen2_moe", "bert"):
        done = plan(os.path.join(models, name), "--tensor-parallel", "2", "--gpu-memory", "1GiB")
        assert done.returncode == 78 and "expected a model of family llama" in done.stderr, done.stderr
    done = plan(QWEN2, "--tensor-parallel", "3", "--gpu-memory", "1GiB")
    assert done.returncode == 78 and "its 4 attention heads cannot be divided between 3 GPUs" in done.stderr
    done = plan(QWEN2, "--tensor-parallel", "2", "--gpu-memory", "0")
    assert done.returncode == 78 and "needs as many usable NVIDIA GPUs, found 0" in done.stderr
    done = plan(QWEN2, "--tensor-parallel", "2", "--gpu-memory", "1GiB", "--gpu-layers", "1")
    assert done.returncode == 78 and "exclude one another" in done.stderr


def test_a_draft_model_counts():
    draft = os.path.join(ROOT, "tests", "golden", "models", "llama2")
    alone = plan(SMOLLM2, "--gpu-memory", "0").stdout
    done = plan(SMOLLM2, "--gpu-memory", "0", "--draft-model", SMOLLM2)
    assert done.returncode == 0, done.stderr
    weights = re.search(r"weights    ([0-9.]+ MiB)", alone)[1]
    assert re.search(rf"draft .* {re.escape(weights)} of weights, KV cache 22.5 KiB a token", done.stdout), done.stdout
    taken, doubled = (float(re.search(r"host +[0-9.]+ [MG]iB +([0-9.]+) MiB", text)[1]) for text in (alone, done.stdout))
    assert abs(doubled - 2 * taken) < 0.2
    # A token takes twice as much, of a little less: half as many fit.
    tokens = [int(re.search(r"KV cache for (\d+) tokens", text)[1]) for text in (alone, done.stdout)]
    assert 1.9 < tokens[0] / tokens[1] < 2.3
    done = plan(SMOLLM2, "--gpu-memory", "0", "--draft-model", draft)
    assert done.returncode == 78 and "expected the same vocabulary" in done.stderr, done.stderr
    done = plan(SMOLLM2, "--gpu-memory", "8GiB", "--draft-model", SMOLLM2)
    assert done.returncode == 78 and "draft_model works on the CPU only" in done.stderr, done.stderr
    done = plan(MINILM, "--draft-model", SMOLLM2)
    assert done.returncode == 78 and "generates no text" in done.stderr, done.stderr


def test_encoders_have_no_cache():
    done = plan(MINILM)
    assert done.returncode == 0 and "no KV cache" in done.stdout


def test_bad_arguments_are_named():
    assert plan().returncode == 64
    assert plan(SMOLLM2, "--what").returncode == 64
    for arguments, mention in (
        (("--gpu-memory", "much"), "--gpu-memory"), (("--gpu-layers", "most"), "--gpu-layers"),
        (("--context-length", "9000"), "8192")):
        done = plan(SMOLLM2, *arguments)
        assert done.returncode == 78 and mention in done.stderr, done.stderr
    done = plan(QWEN2, "--kv-cache-type", "q8_0")
    assert done.returncode == 78 and "heads of a multiple of 32" in done.stderr
    assert plan("/nowhere").returncode == 65
