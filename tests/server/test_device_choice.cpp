// Which device a model goes to, and why not where it cannot.
#include "base/errors.h"
#include "server/device_groups.h"
#include "tests/catch.h"

namespace inferd {
namespace {

GpuList two_gpus() {
  GpuList list;
  list.cuda_version = 13000;
  list.gpus.push_back({0, "Old", std::size_t{8} << 30, 70, "this GPU is sm_70; built: sm_80"});
  list.gpus.push_back({1, "New", std::size_t{24} << 30, 89, ""});
  return list;
}

GpuList no_driver() {
  GpuList list;
  list.problem = "no NVIDIA driver (libcuda.so.1 not found)";
  return list;
}

ModelSpec spec_of(const std::string& device, const std::string& gpu_layers = "auto", const std::string& path = "/m") {
  ModelSpec spec;
  spec.name = "m";
  spec.path = path;
  spec.device = device;
  spec.gpu_layers = gpu_layers;
  return spec;
}

int gpu_of(const ModelSpec& spec, const GpuList& gpus) { return choose_device(spec, gpus).gpu; }

std::string refusal(const ModelSpec& spec, const GpuList& gpus) {
  try {
    choose_device(spec, gpus);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "none";
}

TEST_CASE("auto takes the first GPU that can be used, and may fall back") {
  const DeviceChoice choice = choose_device(spec_of("auto"), two_gpus());
  CHECK(choice.gpu == 1);
  CHECK(choice.may_fall_back);
  CHECK(describe_choice(choice, two_gpus()) == "GPU 1 (New, sm_89, 24.0 GiB)");
  const DeviceChoice none = choose_device(spec_of("auto"), no_driver());
  CHECK(none.gpu == -1);
  CHECK(describe_choice(none, no_driver()) == "CPU: no NVIDIA driver (libcuda.so.1 not found)");
  CHECK(gpu_of(spec_of("auto", "0"), two_gpus()) == -1);
  CHECK(gpu_of(spec_of("cpu"), two_gpus()) == -1);
}

TEST_CASE("a GPU that was asked for is taken or refused with the reason") {
  for (const char* device : {"cuda", "cuda:1"}) {
    const DeviceChoice choice = choose_device(spec_of(device), two_gpus());
    CHECK(choice.gpu == 1);
    CHECK_FALSE(choice.may_fall_back);
  }
  CHECK_FALSE(choose_device(spec_of("auto", "all"), two_gpus()).may_fall_back);
  CHECK(choose_device(spec_of("auto", "all"), two_gpus()).gpu_layers == kAllLayers);
  CHECK(choose_device(spec_of("cuda", "12"), two_gpus()).gpu_layers == 12);
  CHECK(choose_device(spec_of("cuda"), two_gpus()).gpu_layers == kAutoLayers);
  CHECK(refusal(spec_of("cuda:0"), two_gpus()) ==
        "model m: device: cuda:0 needs a usable NVIDIA GPU: this GPU is sm_70; built: sm_80");
  CHECK(refusal(spec_of("cuda:2"), two_gpus()) ==
        "model m: device: cuda:2 needs a usable NVIDIA GPU: this machine has 2 GPUs");
  CHECK(refusal(spec_of("cuda"), no_driver()) ==
        "model m: device: cuda needs a usable NVIDIA GPU: no NVIDIA driver (libcuda.so.1 not found)");
  CHECK(refusal(spec_of("cuda:0"), no_driver()).ends_with("(libcuda.so.1 not found)"));
  CHECK(refusal(spec_of("auto", "all"), no_driver()) ==
        "model m: gpu_layers: all needs a usable NVIDIA GPU: no NVIDIA driver (libcuda.so.1 not found)");
}

TEST_CASE("a model divided between GPUs gets as many as it asks for, or the reason why not") {
  GpuList list = two_gpus();
  list.gpus.push_back({2, "New", std::size_t{24} << 30, 89, ""});
  list.gpus.push_back({3, "New", std::size_t{24} << 30, 89, ""});
  const auto spec = [](int count, const std::string& device, const std::string& layers = "auto") {
    ModelSpec out = spec_of(device, layers);
    out.tensor_parallel = count;
    return out;
  };
  for (const char* device : {"auto", "cuda", "cuda:1"}) {
    const DeviceChoice choice = choose_device(spec(2, device, "all"), list);
    CHECK(choice.gpus() == std::vector<int>{1, 2});
    CHECK_FALSE(choice.may_fall_back);
    CHECK(describe_choice(choice, list) == "GPU 1 (New, sm_89, 24.0 GiB) + GPU 2 (New, sm_89, 24.0 GiB)");
  }
  CHECK(choose_device(spec(2, "cuda:2"), list).gpus() == std::vector<int>{2, 3});
  CHECK(choose_device(spec(1, "cuda"), list).gpus() == std::vector<int>{1});
  CHECK(refusal(spec(4, "auto"), list) == "model m: tensor_parallel: 4 needs as many usable NVIDIA GPUs, found 3");
  CHECK(refusal(spec(2, "cuda:3"), list) ==
        "model m: tensor_parallel: 2 needs as many usable NVIDIA GPUs from device cuda:3 on, found 1");
  CHECK(refusal(spec(2, "cuda:0"), list) == "model m: tensor_parallel: 2 needs GPU 0: this GPU is sm_70; built: sm_80");
  CHECK(refusal(spec(2, "auto"), no_driver()) ==
        "model m: tensor_parallel: 2 needs as many usable NVIDIA GPUs, found 0: no NVIDIA driver (libcuda.so.1 not "
        "found)");
  CHECK(refusal(spec(2, "cpu"), list) == "model m: tensor_parallel: 2 needs GPUs, but device is cpu");
  CHECK(refusal(spec(2, "cuda", "3"), list) == "model m: tensor_parallel: 2 and gpu_layers: 3 exclude one another");
}

TEST_CASE("settings that contradict each other are refused") {
  CHECK(refusal(spec_of("cuda", "0"), two_gpus()) == "model m: gpu_layers: 0 leaves nothing for device cuda");
  CHECK(refusal(spec_of("cpu", "all"), two_gpus()) == "model m: gpu_layers: all needs a GPU, but device is cpu");
  CHECK(refusal(spec_of("cpu", "3"), two_gpus()) == "model m: gpu_layers: 3 needs a GPU, but device is cpu");
}

TEST_CASE("a draft model keeps to the CPU, and so must the model it guesses for") {
  ModelSpec spec = spec_of("auto");
  spec.draft_path = "/d";
  CHECK(refusal(spec, two_gpus()) ==
        "model m: draft_model works on the CPU only, and this model goes to a GPU: leave it out, or set device: cpu");
  CHECK(gpu_of(spec, no_driver()) == -1);
  spec.device = "cpu";
  CHECK(gpu_of(spec, two_gpus()) == -1);
}

TEST_CASE("simulated models have no use for a GPU, but a device that is not there is not passed over") {
  CHECK_FALSE(may_use_gpu(spec_of("auto", "auto", "sim:")));
  CHECK(gpu_of(spec_of("auto", "auto", "sim:"), two_gpus()) == -1);
  CHECK(refusal(spec_of("cuda", "auto", "sim-encoder:"), no_driver()) != "none");
}

}  // namespace
}  // namespace inferd
