#include "model/formats/adapter.h"

#include <filesystem>

#include "model/sha256.h"

namespace polyveil::model {
namespace {

constexpr SafetensorsLimits kAdapterLimits{4 << 20, std::uint64_t{1} << 28, 1 << 14};

Error Misfit(const TensorView& part, const std::string& what) {
  return MakeError(ErrorCode::kMismatch, "adapter: tensor \"{}\" {} {}", part.name,
                   ShapeText(part.shape), what);
}

Status CheckType(const TensorView& view) {
  for (const ElementType type : {ElementType::kF16, ElementType::kBF16, ElementType::kF32})
    if (view.type == type) return {};
  return MakeError(ErrorCode::kCorrupt, "adapter: tensor \"{}\" is {}, neither F16, BF16 nor F32",
                   view.name, FormatOf(view.type).name);
}

// The base's matrix takes left [rows, rank] and right [rank, cols].
Status Update(TensorView& matrix, const TensorView& left, const TensorView& right) {
  if (matrix.shape.size() != 2)
    return Misfit(right, fmt::format("belongs to {}, no matrix", ShapeText(matrix.shape)));
  if (left.shape.size() != 2 || right.shape.size() != 2 || left.cols() != right.rows())
    return Misfit(left, fmt::format("does not fit {} {}", right.name, ShapeText(right.shape)));
  const std::int64_t rank = right.rows();
  if (rank < 1 || rank > kLargestRank)
    return MakeError(ErrorCode::kOutOfRange, "adapter: tensor \"{}\" has rank {}, not in 1..{}",
                     right.name, rank, kLargestRank);
  for (const auto& [part, have, want] : {std::tuple{&left, left.rows(), matrix.rows()},
                                         std::tuple{&right, right.cols(), matrix.cols()}}) {
    if (have != want) return Misfit(*part, fmt::format("of a base {}", ShapeText(matrix.shape)));
    PV_RETURN_IF_ERROR(CheckFinite(*part));
  }
  matrix.update = std::make_shared<const LowRankUpdate>(
      LowRankUpdate{static_cast<int>(rank), DecodeAll(left), DecodeAll(right)});
  return {};
}

// A vector of the adapter stands in the place of the base's.
Status Exchange(TensorView& vector, const TensorView& own) {
  if (vector.shape != own.shape || own.shape.size() != 1)
    return Misfit(own, fmt::format("stands for {} of the base", ShapeText(vector.shape)));
  PV_RETURN_IF_ERROR(CheckFinite(own));
  vector = own;
  return {};
}

}  // namespace

Status Adapter::Apply(TensorViews& base) const {
  for (const auto& [name, view] : tensors) {
    const bool right = name.ends_with(kRightSuffix), left = name.ends_with(kLeftSuffix);
    const std::string stem =
        right || left ? name.substr(0, name.size() - std::string_view(kLeftSuffix).size()) : name;
    const auto target = base.find(stem);
    if (target == base.end())
      return MakeError(ErrorCode::kNotFound,
                       "adapter: tensor \"{}\" belongs to none of the base's {}", name,
                       base.size());
    if (!right && !left) {
      PV_RETURN_IF_ERROR(Exchange(target->second, view));
      continue;
    }
    const auto other = tensors.find(stem + (right ? kLeftSuffix : kRightSuffix));
    if (other == tensors.end())
      return Misfit(view, fmt::format("has no {}{}", stem, right ? kLeftSuffix : kRightSuffix));
    if (right) PV_RETURN_IF_ERROR(Update(target->second, other->second, view));
  }
  return {};
}

bool IsAdapter(const std::string& folder) {
  std::error_code error;
  return std::filesystem::exists(folder + "/" + kAdapterName, error);
}

Result<Adapter> LoadAdapter(const std::string& folder) {
  Adapter adapter;
  PV_ASSIGN_OR_RETURN(adapter.file, MappedFile::Open(folder + "/" + kAdapterName));
  PV_ASSIGN_OR_RETURN(auto forms, LoadForms(folder));
  if (!forms || !forms->weights)
    return MakeError(ErrorCode::kMismatch, "{}: an adapter, but {}", folder,
                     forms ? "forms.weights names no base" : "no forms.json");
  adapter.forms = *std::move(forms);
  adapter.sha256 = Sha256Hex(adapter.file->bytes());
  auto views = SafetensorsViews(adapter.file->bytes(), kAdapterLimits);
  if (!views.ok())
    return MakeError(views.error().code, "{}: {}", kAdapterName, views.error().message);
  for (TensorView& view : *views) {
    PV_RETURN_IF_ERROR(CheckType(view));
    const std::string name = view.name;
    adapter.tensors.emplace(name, std::move(view));
  }
  return adapter;
}

Result<std::vector<TensorView>> SafetensorsViews(std::span<const std::uint8_t> bytes,
                                                 const SafetensorsLimits& limits) {
  PV_ASSIGN_OR_RETURN(auto entries, ReadSafetensorsIndex(bytes, limits));
  std::vector<TensorView> views;
  for (SafetensorsEntry& entry : entries)
    views.push_back({std::move(entry.name), entry.type, std::move(entry.shape),
                     bytes.subspan(entry.begin, entry.end - entry.begin)});
  return views;
}

}  // namespace polyveil::model
