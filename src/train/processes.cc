#include "train/processes.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <stdexcept>
#ifdef POLYVEIL_GLOO
#include <torch/csrc/distributed/c10d/FileStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#endif

namespace polyveil::train {
namespace {

using torch::Tensor;
[[maybe_unused]] constexpr std::chrono::minutes kPatience{10};  // for the slowest process of a step

void SilenceOutput() {
  const int nowhere = open("/dev/null", O_WRONLY);
  if (nowhere < 0) return;
  dup2(nowhere, STDOUT_FILENO);
  close(nowhere);
}

}  // namespace

#ifdef POLYVEIL_GLOO

struct Processes::Group {
  explicit Group(const std::string& meet, int rank, int count) {
    auto options = c10d::ProcessGroupGloo::Options::create(kPatience);
    options->devices.push_back(c10d::ProcessGroupGloo::createDeviceForHostname("127.0.0.1"));
    const auto store = c10::make_intrusive<c10d::FileStore>(meet, count);
    gloo = c10::make_intrusive<c10d::ProcessGroupGloo>(store, rank, count, options);
  }
  void Sum(std::vector<Tensor>& message) { gloo->allreduce(message)->wait(); }

  c10::intrusive_ptr<c10d::ProcessGroupGloo> gloo;
};

#else

struct Processes::Group {
  Group(const std::string&, int, int) { throw std::runtime_error("this LibTorch has no Gloo"); }
  void Sum(std::vector<Tensor>&) {}
};

#endif

Result<std::unique_ptr<Processes>> Processes::Start(int count) {
  std::unique_ptr<Processes> out(new Processes());
  out->count_ = count;
  if (count == 1) return out;
  std::string folder = (std::filesystem::temp_directory_path() / "polyveil-XXXXXX").string();
  if (mkdtemp(folder.data()) == nullptr)
    return MakeError(ErrorCode::kIo, "cannot make a folder like {}", folder);
  std::fflush(nullptr);  // or the others would write it again
  for (int rank = 1; rank < count && out->rank_ == 0; ++rank) {
    const pid_t id = fork();
    if (id < 0) return MakeError(ErrorCode::kIo, "cannot fork process {} of {}", rank, count);
    if (id > 0) {
      out->others_.push_back(id);
      continue;
    }
    out->rank_ = rank;
    out->others_.clear();
    SilenceOutput();
  }
  try {
    out->group_ = std::make_unique<Group>(folder + "/meet", out->rank_, count);
  } catch (const std::exception& error) {
    return MakeError(ErrorCode::kIo, "process {} of {}: {}", out->rank_, count, error.what());
  }
  // A sum that every process takes part in: all have met.
  PV_RETURN_IF_ERROR(out->Sum({torch::zeros({1})}));
  if (out->rank_ == 0) std::filesystem::remove_all(folder);
  return out;
}

Processes::~Processes() {
  const bool met = group_ != nullptr;  // else the others would wait for this one
  group_.reset();
  for (const pid_t id : others_) {
    if (!met) kill(id, SIGTERM);
    waitpid(id, nullptr, 0);
  }
}

Status Processes::Sum(const std::vector<Tensor>& tensors) const {
  if (!group_ || tensors.empty()) return {};
  torch::NoGradGuard no_grad;
  std::vector<Tensor> flat;
  for (const Tensor& tensor : tensors) flat.push_back(tensor.reshape({-1}));
  std::vector<Tensor> message{torch::cat(flat)};
  try {
    group_->Sum(message);
  } catch (const std::exception& error) {
    return MakeError(ErrorCode::kIo, "process {} of {} lost another: {}", rank_, count_,
                     error.what());
  }
  std::int64_t at = 0;
  for (Tensor tensor : tensors) {
    tensor.copy_(message[0].narrow(0, at, tensor.numel()).view(tensor.sizes()));
    at += tensor.numel();
  }
  return {};
}

}  // namespace polyveil::train
