#include "train/device.h"

#include <ATen/Context.h>
#include <dlfcn.h>

#include <charconv>

namespace polyveil::train {
namespace {

constexpr const char* kCudaLibrary = "libtorch_cuda.so";

// A wheel's CUDA half is another library, which needs NVIDIA's: loaded where it is asked for.
Status LoadCuda() {
  if (torch::cuda::is_available()) return {};
  if (!dlopen(kCudaLibrary, RTLD_NOW | RTLD_GLOBAL))
    return MakeError(ErrorCode::kNotFound,
                     "device cuda: {} (a LibTorch with CUDA: cmake -DPOLYVEIL_TORCH=FOLDER)",
                     dlerror());
  if (torch::cuda::is_available()) return {};
  return MakeError(ErrorCode::kNotFound, "device cuda: {} devices here",
                   torch::cuda::device_count());
}

}  // namespace

Result<torch::Device> OpenDevice(const std::string& name) {
  if (name == "cpu") return torch::Device(torch::kCPU);
  constexpr std::string_view kCuda = "cuda";
  int index = 0;
  const char* const end = name.data() + name.size();
  const bool numbered = name.starts_with("cuda:") && name.size() > 5;
  if (name != kCuda && !numbered)
    return MakeError(ErrorCode::kInvalidArgument, "device {}: cpu, cuda or cuda:N", name);
  if (numbered) {
    const auto read = std::from_chars(name.data() + 5, end, index);
    if (read.ec != std::errc() || read.ptr != end || index < 0 || index > 127)
      return MakeError(ErrorCode::kInvalidArgument, "device {}: cpu, cuda or cuda:N", name);
  }
  PV_RETURN_IF_ERROR(LoadCuda());
  const auto count = static_cast<int>(torch::cuda::device_count());
  if (index >= count)
    return MakeError(ErrorCode::kNotFound, "device {}: {} devices here", name, count);
  at::globalContext().setAllowTF32CuBLAS(true);
  return torch::Device(torch::kCUDA, static_cast<torch::DeviceIndex>(index));
}

}  // namespace polyveil::train
