// Test support: the small random models of tests/vectors/released.
#pragma once

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <numeric>
#include <string>
#include <vector>

#include "model/safetensors.h"

namespace polyveil::model {

inline std::string VectorPath(const std::string& name) {
  return std::string(POLYVEIL_VECTORS) + "/released/" + name;
}

inline nlohmann::json ReadVectors(const std::string& name) {
  std::ifstream in(VectorPath(name));
  return nlohmann::json::parse(in);
}

// A folder that goes away with the object.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "released-XXXXXX").string();
    path_ = mkdtemp(pattern.data());
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

template <typename Bytes>
void WriteBytes(const std::string& path, const Bytes& bytes) {
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()), static_cast<long>(bytes.size()));
}

// The generator's weight_values: SplitMix64 from the FNV-1a hash of the name.
inline Tensor MakeTensor(const std::string& name, const std::vector<std::int64_t>& shape) {
  std::uint64_t state = 0xCBF29CE484222325;
  for (const char c : name) state = (state ^ static_cast<unsigned char>(c)) * 0x100000001B3;
  Tensor tensor{shape, {}};
  const bool gain = name.ends_with("weight");
  for (std::int64_t i = 0; i < tensor.size(); ++i) {
    std::uint64_t z = state += 0x9E3779B97F4A7C15;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9;
    z = (z ^ z >> 27) * 0x94D049BB133111EB;
    z ^= z >> 31;
    double value = static_cast<double>(z >> 11) * 0x1p-53 - 0.5;
    if (shape.size() == 1) value = value * 0.2 + (gain ? 1.0 : 0.0);
    tensor.values.push_back(static_cast<float>(value));
  }
  return tensor;
}

inline TensorMap MakeTensors(const nlohmann::json& shapes) {
  TensorMap tensors;
  for (const auto& [name, shape] : shapes.items())
    tensors[name] = MakeTensor(name, shape.get<std::vector<std::int64_t>>());
  return tensors;
}

// config.json and model.safetensors of a case.
inline void WriteModel(const nlohmann::json& vectors, const std::string& folder,
                       ElementType type = ElementType::kF32) {
  WriteBytes(folder + "/config.json", vectors["config"].dump());
  WriteBytes(folder + "/model.safetensors",
             FormatSafetensors(MakeTensors(vectors["tensors"]), type));
}

}  // namespace polyveil::model
