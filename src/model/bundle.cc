#include "model/bundle.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <numeric>

#include "base/thread_pool.h"
#include "model/ngram.h"

namespace polyveil::model {
namespace {

constexpr std::uint64_t kMaxFileBytes = 64ull << 20;

Result<Tensor> Take(TensorMap& tensors, const std::string& name,
                    const std::vector<std::int64_t>& shape) {
  const auto it = tensors.find(name);
  if (it == tensors.end())
    return MakeError(ErrorCode::kMismatch, "model.safetensors: no tensor \"{}\"", name);
  if (it->second.shape != shape)
    return MakeError(ErrorCode::kMismatch, "model.safetensors: \"{}\" has shape [{}], needs [{}]",
                     name, fmt::join(it->second.shape, ", "), fmt::join(shape, ", "));
  return std::move(it->second);
}

Result<Matrix> TakeMatrix(TensorMap& tensors, const std::string& name, int rows, int cols) {
  PV_ASSIGN_OR_RETURN(Tensor tensor, Take(tensors, name, {rows, cols}));
  return Matrix{rows, cols, std::move(tensor.values)};
}

Result<BundleLayer> TakeLayer(TensorMap& tensors, const ModelConfig& config, int layer) {
  const std::string at = fmt::format("layers.{}.", layer);
  const int d = config.d_model, f = config.d_ff;
  BundleLayer w;
  PV_ASSIGN_OR_RETURN(w.wq, TakeMatrix(tensors, at + "wq", d, d));
  PV_ASSIGN_OR_RETURN(w.wk, TakeMatrix(tensors, at + "wk", d, d));
  PV_ASSIGN_OR_RETURN(w.wv, TakeMatrix(tensors, at + "wv", d, d));
  PV_ASSIGN_OR_RETURN(w.wo, TakeMatrix(tensors, at + "wo", d, d));
  PV_ASSIGN_OR_RETURN(w.w1, TakeMatrix(tensors, at + "w1", f, d));
  if (config.ffn == FeedForwardKind::kBilinear) {
    PV_ASSIGN_OR_RETURN(w.w2, TakeMatrix(tensors, at + "w2", f, d));
  }
  PV_ASSIGN_OR_RETURN(w.wdown, TakeMatrix(tensors, at + "wdown", d, f));
  return w;
}

struct Parts {
  ModelConfig config;
  TensorMap tensors;
};

Result<Parts> ParseParts(std::string_view model_json, std::span<const std::uint8_t> bytes) {
  Parts parts;
  PV_ASSIGN_OR_RETURN(parts.config, ParseModelConfig(model_json));
  const std::string& expected = parts.config.tensors_sha256;
  if (const std::string digest = Sha256Hex(bytes); !expected.empty() && digest != expected)
    return MakeError(ErrorCode::kMismatch, "model.safetensors: sha256 {}, model.json names {}",
                     digest, expected);
  PV_ASSIGN_OR_RETURN(parts.tensors, ParseSafetensors(bytes));
  return parts;
}

struct Files {
  std::vector<std::uint8_t> json, tensors;
  std::string_view json_text() const {
    return {reinterpret_cast<const char*>(json.data()), json.size()};
  }
};

Result<Files> ReadFiles(const std::string& directory) {
  Files files;
  PV_ASSIGN_OR_RETURN(files.json, ReadBundleFile(directory + "/model.json", 4 << 20));
  PV_ASSIGN_OR_RETURN(files.tensors,
                      ReadBundleFile(directory + "/model.safetensors", kMaxFileBytes));
  return files;
}

// Sums of every eighth product: independent additions that the processor overlaps.
double Dot(std::span<const double> a, std::span<const double> b) {
  constexpr std::size_t kSums = 8;
  std::array<double, kSums> sums{};
  std::size_t i = 0;
  for (; i + kSums <= a.size(); i += kSums)
    for (std::size_t k = 0; k < kSums; ++k) sums[k] += a[i + k] * b[i + k];
  for (; i < a.size(); ++i) sums[0] += a[i] * b[i];
  return std::accumulate(sums.begin(), sums.end(), 0.0);
}

}  // namespace

std::vector<double> Multiply(const Matrix& w, std::span<const double> x) {
  constexpr std::size_t kRowsAtOnce = 64;
  PV_CHECK(static_cast<int>(x.size()) == w.cols, "{} values for {} columns", x.size(), w.cols);
  std::vector<double> y(static_cast<std::size_t>(w.rows));
  ParallelFor((y.size() + kRowsAtOnce - 1) / kRowsAtOnce, [&](std::size_t part) {
    const std::size_t end = std::min(y.size(), (part + 1) * kRowsAtOnce);
    for (std::size_t r = part * kRowsAtOnce; r < end; ++r)
      y[r] = Dot(w.row(static_cast<int>(r)), x);
  });
  return y;
}

Result<BodyBundle> ParseBodyBundle(std::string_view model_json,
                                   std::span<const std::uint8_t> bytes) {
  PV_ASSIGN_OR_RETURN(Parts parts, ParseParts(model_json, bytes));
  BodyBundle bundle{std::move(parts.config), {}};
  for (int layer = 0; layer < bundle.config.n_layers; ++layer) {
    PV_ASSIGN_OR_RETURN(BundleLayer weights, TakeLayer(parts.tensors, bundle.config, layer));
    bundle.weights.layers.push_back(std::move(weights));
  }
  return bundle;
}

Result<ClientBundle> ParseClientBundle(std::string_view model_json,
                                       std::span<const std::uint8_t> bytes) {
  PV_ASSIGN_OR_RETURN(Parts parts, ParseParts(model_json, bytes));
  ClientBundle bundle{std::move(parts.config), {}};
  const ModelConfig& config = bundle.config;
  PV_ASSIGN_OR_RETURN(bundle.weights.embed,
                      TakeMatrix(parts.tensors, "embed", config.vocab_size, config.d_model));
  PV_ASSIGN_OR_RETURN(bundle.weights.pos,
                      TakeMatrix(parts.tensors, "pos", config.context, config.d_model));
  PV_ASSIGN_OR_RETURN(Tensor gamma, Take(parts.tensors, "final_gamma", {config.d_model}));
  bundle.weights.final_gamma = std::move(gamma.values);
  for (std::size_t i = 0; i < config.ngram_rows.size(); ++i) {
    PV_ASSIGN_OR_RETURN(Matrix table, TakeMatrix(parts.tensors, NgramName(i), config.ngram_rows[i],
                                                 config.d_model));
    bundle.weights.ngrams.push_back(std::move(table));
  }
  return bundle;
}

Result<BodyBundle> LoadBodyBundle(const std::string& directory) {
  PV_ASSIGN_OR_RETURN(const Files files, ReadFiles(directory));
  return ParseBodyBundle(files.json_text(), files.tensors);
}

Result<ClientBundle> LoadClientBundle(const std::string& directory) {
  PV_ASSIGN_OR_RETURN(const Files files, ReadFiles(directory));
  return ParseClientBundle(files.json_text(), files.tensors);
}

Result<std::vector<std::uint8_t>> ReadBundleFile(const std::string& path, std::uint64_t max_bytes) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error))
    return MakeError(ErrorCode::kNotFound, "{} is no file", path);
  const std::uint64_t size = std::filesystem::file_size(path, error);
  if (error) return MakeError(ErrorCode::kIo, "{}: {}", path, error.message());
  if (size > max_bytes)
    return MakeError(ErrorCode::kOutOfRange, "{} has {} bytes > {}", path, size, max_bytes);
  std::vector<std::uint8_t> bytes(size);
  std::ifstream in(path, std::ios::binary);
  in.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(size));
  if (!in || static_cast<std::uint64_t>(in.gcount()) != size)
    return MakeError(ErrorCode::kIo, "{}: read {} of {} bytes", path, in.gcount(), size);
  return bytes;
}

}  // namespace polyveil::model
