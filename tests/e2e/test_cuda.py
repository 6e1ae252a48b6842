"""The daemon on the fake GPU: answers over HTTP, what auto does, and how it ends when the GPU has no room or is lost."""
import json
import os
import subprocess

import httpx
import pytest
from daemon import ROOT, Daemon, binary

BUILD = os.path.dirname(binary())
QWEN = os.path.join(ROOT, "tests", "golden", "models", "qwen2")
BERT = os.path.join(ROOT, "tests", "golden", "models", "bert")
MODELS = ("--model", f"qwen={QWEN}", "--model", f"bert={BERT}", "--context-length", "256")


def serving(*arguments, environment):  # the interpreter is slow where other tests run beside it
    return Daemon(*arguments, environment=environment, timeout_s=240)


pytestmark = pytest.mark.skipif(not os.path.exists(os.path.join(BUILD, "cuda", "rows.fatbin")), reason="built without nvcc")


def gpu(more=",memory=268435456"):
    return {"LD_LIBRARY_PATH": os.path.join(BUILD, "fake_cuda"),
            "INFERD_FAKE_CUDA": f"manifest={os.path.join(BUILD, 'cuda', 'manifest.txt')}" + more}


def ask(url, **more):
    body = {"model": "qwen", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5, "temperature": 0} | more
    return httpx.post(url + "/v1/chat/completions", json=body, timeout=120)


def check_device_failed(error):
    assert error["code"] == "device_failed" and error["type"] == "server_error"
    assert "has failed, and the server is stopping" in error["message"]


def check_ends_with_75(daemon):
    assert daemon.process.wait(30) == 75, daemon.log()
    daemon.process.returncode = 0  # as wanted


def events_of(answer):
    return [json.loads(line.removeprefix("data: ")) for line in answer.iter_lines() if line.startswith("data: ")]


def run_until_exit(*arguments, environment):
    clean = {k: v for k, v in os.environ.items() if not k.startswith("INFERD_")}
    return subprocess.run([binary(), "serve", "--port", "0", *arguments], env=clean | environment, capture_output=True,
                          text=True, timeout=240, check=False)


def test_answers_and_embeddings_are_those_of_the_cpu():
    exact = ("--activations", "f32", "--kv-cache-type", "f32")
    said, vectors = [], []
    for device, environment in (("cpu", {}), ("cuda", gpu())):
        with serving(*MODELS, *exact, "--device", device, environment=environment) as daemon:
            answer = ask(daemon.url)
            assert answer.status_code == 200, answer.text
            said.append(answer.json()["choices"][0]["message"]["content"])
            answer = httpx.post(daemon.url + "/v1/embeddings", json={"model": "bert", "input": ["a", "b c"]}, timeout=120)
            vectors.append([item["embedding"] for item in answer.json()["data"]])
            if device == "cuda":
                assert "backend cuda (GPU 0, Simulated GPU 0 (sm_80), sm_80)" in daemon.log()
    assert said[0] == said[1]
    for one, other in zip(*vectors):
        assert max(abs(a - b) for a, b in zip(one, other)) < 1e-4


def test_a_model_divided_between_gpu_and_cpu_answers_as_either():
    exact = ("--activations", "f32", "--kv-cache-type", "f32", "--context-length", "256", "--model", f"qwen={QWEN}")
    said = []
    for device, layers, environment in (("cpu", "0", {}), ("cuda", "1", gpu())):
        with serving(*exact, "--device", device, "--gpu-layers", layers, environment=environment) as daemon:
            said.append([ask(daemon.url, messages=[{"role": "user", "content": text}]).json()["choices"][0]["message"]
                         ["content"] for text in ("hi", "a longer one, to be sure")])
            assert ("the first 1 of its 2 layers stay on the CPU" in daemon.log()) == (device == "cuda")
    assert said[0] == said[1]


def test_a_q8_0_cache_on_the_gpu_and_divided_answers_as_on_the_cpu():
    wide = os.path.join(ROOT, "tests", "golden", "gguf", "qwen2w.Q4_K_M.gguf")
    arguments = ("--activations", "f32", "--model", f"qwen={wide}", "--context-length", "256", "--kv-cache-type", "q8_0")
    said = []
    for device, layers, environment in (("cpu", "0", {}), ("cuda", "all", gpu()), ("cuda", "1", gpu())):
        with serving(*arguments, "--device", device, "--gpu-layers", layers, environment=environment) as daemon:
            said.append(ask(daemon.url).json()["choices"][0]["message"]["content"])
            assert ("backend cuda" in daemon.log()) == (device == "cuda")
    assert said[0] == said[1] == said[2]


def test_a_fp8_cache_answers_on_the_gpu_and_is_refused_on_the_cpu():
    arguments = ("--model", f"qwen={QWEN}", "--context-length", "256", "--kv-cache-type", "fp8")
    with serving(*arguments, "--device", "cuda", environment=gpu()) as daemon:
        answers = [ask(daemon.url) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [200, 200]
        assert answers[0].json()["choices"][0]["message"] == answers[1].json()["choices"][0]["message"]
    for device in (("--device", "cpu"), ("--device", "cuda", "--gpu-layers", "1")):
        ended = run_until_exit(*arguments, *device, environment=gpu())
        assert ended.returncode == 78
        assert "kv_cache_type: fp8 is kept on NVIDIA GPUs only, but qwen has layers on cpu (" in ended.stderr
        assert "q8_0 takes hardly more and is kept there too" in ended.stderr
    ended = run_until_exit("--model", QWEN, "--kv-cache-type", "fp9", environment=gpu())
    assert ended.returncode == 78 and "--kv-cache-type: expected f16|f32|q8_0|fp8, found 'fp9'" in ended.stderr


def test_a_model_divided_between_two_gpus_answers_as_one():
    exact = ("--activations", "f32", "--kv-cache-type", "f32", "--context-length", "256", "--model", f"qwen={QWEN}")
    said = []
    for arguments, environment in ((("--device", "cpu"), {}), (("--tensor-parallel", "2"), gpu(",memory=268435456,devices=3"))):
        with serving(*exact, *arguments, environment=environment) as daemon:
            said.append([ask(daemon.url, messages=[{"role": "user", "content": text}]).json()["choices"][0]["message"]
                         ["content"] for text in ("hi", "a longer one, to be sure")])
            if environment:
                assert "backend cuda (2 GPUs: GPU 0, Simulated GPU 0 (sm_80); GPU 1, Simulated GPU 1 (sm_80), sm_80)" \
                    in daemon.log()
    assert said[0] == said[1]


def test_gpus_that_cannot_be_used_together_end_with_the_reason():
    ended = run_until_exit("--model", QWEN, "--tensor-parallel", "2", environment=gpu())
    assert ended.returncode == 78
    assert "tensor_parallel: 2 needs as many usable NVIDIA GPUs, found 1" in ended.stderr
    ended = run_until_exit("--model", QWEN, "--tensor-parallel", "3", environment=gpu(",memory=268435456,devices=3"))
    assert ended.returncode == 78
    assert "its 4 attention heads cannot be divided between 3 GPUs" in ended.stderr
    ended = run_until_exit("--model", QWEN, "--tensor-parallel", "2", environment=gpu(",memory=268435456,devices=2,fail=ncclCommInitAll:1:2"))
    assert ended.returncode == 78
    assert "NCCL cannot connect GPUs 0, 1: unhandled system error (2)" in ended.stderr


@pytest.mark.parametrize("fail, why", [("ncclAllGather:20:2", "NCCL cannot gather what the GPUs computed: unhandled system error"),
                                       ("cuLaunchKernel:61:719:sticky", "Simulated GPU"),
                                       ("cuGraphLaunch:4:719:sticky", "cannot replay a step (GPU 1")])
def test_one_lost_gpu_of_two_ends_the_process(fail, why):
    arguments = ("--model", f"qwen={QWEN}", "--context-length", "256", "--tensor-parallel", "2")
    with serving(*arguments, environment=gpu(f",memory=268435456,devices=2,fail={fail}")) as daemon:
        check_device_failed(ask(daemon.url, max_tokens=50).json()["error"])
        check_ends_with_75(daemon)
        assert "engine stopped: " in daemon.log() and why in daemon.log()


def test_auto_takes_a_gpu_that_fits_and_says_so():
    with serving(*MODELS, environment=gpu()) as daemon:
        assert "model qwen: GPU 0 (Simulated GPU 0 (sm_80), sm_80, 0.2 GiB)" in daemon.log()
        assert ask(daemon.url).status_code == 200


@pytest.mark.parametrize("more, why", [(",arch=70", "this GPU is sm_70; built: sm_75"), (",devices=0", "sees no GPU")])
def test_auto_without_a_usable_gpu_runs_on_the_cpu_and_says_why(more, why):
    with serving(*MODELS, environment=gpu(more)) as daemon:
        assert "model qwen: CPU: " in daemon.log() and why in daemon.log()
        assert "backend cpu" in daemon.log()


def test_auto_falls_back_where_the_model_does_not_fit():
    with serving(*MODELS, environment=gpu(",memory=400000")) as daemon:
        assert "model qwen runs on the CPU: model qwen: its last layer and its output alone need" in daemon.log()
        assert "model bert runs on the CPU: GPU 0" in daemon.log()
        assert ask(daemon.url).status_code == 200


def test_a_model_that_does_not_fit_ends_with_both_numbers():
    ended = run_until_exit(*MODELS, "--device", "cuda", environment=gpu(",memory=400000"))
    assert ended.returncode == 71
    assert "bytes of device memory" in ended.stderr and "are available" in ended.stderr
    ended = run_until_exit(*MODELS, "--device", "cuda", "--gpu-layers", "all", environment=gpu(",memory=400000"))
    assert ended.returncode == 71
    assert "bytes of device memory" in ended.stderr and "are free" in ended.stderr
    ended = run_until_exit(*MODELS, "--device", "cuda", "--kv-cache-memory", "1GiB", environment=gpu())
    assert ended.returncode == 71
    assert "1073741824 bytes were asked for" in ended.stderr and "bytes are available" in ended.stderr


def test_a_device_that_cannot_be_used_ends_with_the_reason():
    ended = run_until_exit(*MODELS, "--device", "cuda", environment=gpu(",arch=70"))
    assert ended.returncode == 78 and "this GPU is sm_70" in ended.stderr
    ended = run_until_exit(*MODELS, "--device", "cuda", "--kv-cache-type", "q8_0", environment=gpu())
    assert ended.returncode == 78 and "q8_0 needs heads of a multiple of 32 elements" in ended.stderr
    ended = run_until_exit(*MODELS, "--device", "cuda:3", environment=gpu())
    assert ended.returncode == 78 and "this machine has 1 GPU" in ended.stderr


def test_bench_measures_a_gpu():
    environment = {k: v for k, v in os.environ.items() if not k.startswith("INFERD_")} | gpu()
    said = subprocess.run([binary(), "bench", "--model", QWEN, "--device", "cuda", "--prompt", "20", "--generate", "4", "--batch",
                           "2", "--repetitions", "1", "--json"], env=environment, capture_output=True, text=True, timeout=240,
                          check=True)
    report = json.loads(said.stdout)
    assert report["backend"] == "cuda (GPU 0, Simulated GPU 0 (sm_80), sm_80)"
    assert [test["test"] for test in report["tests"]] == ["pp20", "tg4 x2"]
    assert all(test["tok_per_s"] > 0 and test["share_of_read_peak"] is None for test in report["tests"])


def test_a_lost_gpu_ends_what_runs_and_the_process():
    with serving(*MODELS, "--device", "cuda", environment=gpu(",fail=cuGraphLaunch:2:719:sticky")) as daemon:
        answer = ask(daemon.url, max_tokens=50)
        assert answer.status_code == 503 and int(answer.headers["retry-after"]) > 0, answer.text
        check_device_failed(answer.json()["error"])
        check_ends_with_75(daemon)
        assert "engine stopped: cannot replay a step (GPU 0, Simulated GPU 0 (sm_80))" in daemon.log()


def test_a_stream_cut_by_a_lost_gpu_ends_with_an_error_event_and_others_with_theirs():
    others = ("--model", "slow=sim:step_ms=50,eos=0")
    with serving(*MODELS, *others, environment=gpu(",fail=cuGraphLaunch:6:719:sticky")) as daemon:
        body = {"model": "slow", "prompt": "x", "max_tokens": 2000, "stream": True, "ignore_eos": True}
        with httpx.stream("POST", daemon.url + "/v1/completions", json=body, timeout=120) as elsewhere:
            assert elsewhere.status_code == 200
            body = {"model": "qwen", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 50, "stream": True,
                    "ignore_eos": True}
            with httpx.stream("POST", daemon.url + "/v1/chat/completions", json=body, timeout=120) as answer:
                assert answer.status_code == 200
                events = events_of(answer)
            assert len(events) > 2 and all("error" not in event for event in events[:-1])
            check_device_failed(events[-1]["error"])
            assert events_of(elsewhere)[-1]["error"]["code"] == "shutting_down"  # its engine is well, the server is not
        check_ends_with_75(daemon)


def test_embeddings_cut_by_a_lost_gpu_say_so():
    with serving(*MODELS, "--device", "cuda", environment=gpu(",fail=cuMemcpyDtoHAsync_v2:1:719:sticky")) as daemon:
        answer = httpx.post(daemon.url + "/v1/embeddings", json={"model": "bert", "input": "a"}, timeout=120)
        assert answer.status_code == 503, answer.text
        check_device_failed(answer.json()["error"])
        check_ends_with_75(daemon)


def test_weights_quantised_at_load_answer_as_on_the_cpu(tmp_path):
    exact = ("--activations", "f32", "--kv-cache-type", "f32", "--context-length", "256", "--model", f"qwen={QWEN}",
             "--cache-dir", str(tmp_path))
    body = {"model": "qwen", "prompt": [5, 6, 7, 8], "max_tokens": 3, "temperature": 0, "logprobs": 3,
            "return_tokens_as_token_ids": True}
    for to in ("int8", "int4"):
        said = []
        for device, environment in (("cpu", {}), ("cuda", gpu())):
            with serving(*exact, "--device", device, "--quantization", to, environment=environment) as daemon:
                answer = httpx.post(daemon.url + "/v1/completions", json=body, timeout=120)
                assert answer.status_code == 200, answer.text
                said.append(answer.json()["choices"][0]["logprobs"])
                assert f"{to} from BF16" in daemon.log()
        assert said[0]["tokens"] == said[1]["tokens"]
        for one, other in zip(said[0]["token_logprobs"], said[1]["token_logprobs"]):
            assert one == pytest.approx(other, abs=1e-3)
    assert len(os.listdir(tmp_path)) == 2  # the GPU took the blocks that the CPU's start had made


Q8 = os.path.join(ROOT, "tests", "golden", "gguf", "qwen2.Q8_0.gguf")


def test_batch_invariant_false_takes_cublaslt_and_another_fingerprint():
    prints = []
    for value in ("true", "false"):
        with serving("--model", f"qwen={Q8}", "--context-length", "512", "--device", "cuda", f"--batch-invariant={value}",
                     environment=gpu(",memory=1073741824,eager=1,checked=0")) as daemon:
            assert ("cuBLASLt 13.1.0" in daemon.log()) == (value == "false")
            text = "word " * (90 if value == "false" else 1)
            answer = ask(daemon.url, messages=[{"role": "user", "content": text}], max_tokens=1)
            assert answer.status_code == 200, answer.text
            assert (answer.json()["usage"]["prompt_tokens"] >= 256) == (value == "false")  # so many go through it
            prints.append(answer.json()["system_fingerprint"])
    assert prints[0] != prints[1]


def test_a_cublaslt_that_does_not_start_or_fails_ends_with_the_reason():
    ended = run_until_exit("--model", Q8, "--device", "cuda", "--batch-invariant=false",
                           environment=gpu(",memory=1073741824,fail=cublasLtCreate:1:1"))
    assert ended.returncode == 78
    assert "batch_invariant: false needs cuBLASLt, which does not start: CUBLAS_STATUS_NOT_INITIALIZED (1)" in ended.stderr
    with serving("--model", f"qwen={Q8}", "--context-length", "512", "--device", "cuda", "--batch-invariant=false",
                 environment=gpu(",memory=1073741824,eager=1,checked=0,fail=cublasLtMatmul:3:13")) as daemon:
        check_device_failed(ask(daemon.url, messages=[{"role": "user", "content": "word " * 90}]).json()["error"])
        check_ends_with_75(daemon)
        assert "cuBLASLt cannot multiply: CUBLAS_STATUS_EXECUTION_FAILED (13)" in daemon.log()


def test_where_batch_invariant_false_changes_nothing_it_is_said(tmp_path):
    def check(text, environment):
        file = tmp_path / "inferd.yaml"
        file.write_text(f"models: [{{name: qwen, path: {QWEN}}}]\n" + text)
        clean = {k: v for k, v in os.environ.items() if not k.startswith("INFERD_")}
        done = subprocess.run([binary(), "check-config", str(file)], env=clean | environment, capture_output=True, text=True,
                              timeout=60, check=False)
        return done.returncode, done.stdout + done.stderr
    code, said = check("batch_invariant: false\ndevice: cpu\n", {})
    assert code == 0 and "note: model qwen runs on the CPU, where batch_invariant: false changes nothing" in said
    code, said = check("batch_invariant: false\ndevice: cuda\nmax_batch_tokens: 128\n", gpu())
    assert code == 0 and "cuBLASLt takes none below 256, so it changes nothing" in said
    code, said = check("batch_invariant: false\ndevice: cuda\nmax_batch_tokens: 300\n", gpu())
    assert code == 0 and "cuBLASLt takes 16-bit weights from 512 on, so only quantised ones" in said
    code, said = check("batch_invariant: false\ndevice: cuda\n", gpu())
    assert code == 0 and "note" not in said
    code, said = check("batch_invariant: false\nactivations: f32\n", {})
    assert code == 78 and "batch_invariant: false and activations: f32 exclude one another" in said
