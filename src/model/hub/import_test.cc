// Files as they come from outside: sharded, broken, hostile.
#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "model/hub/checkpoint.h"
#include "model/hub/hub_fixture.h"

namespace polyveil::model::hub {
namespace {

using Json = nlohmann::json;

Json Case(const std::string& name) {
  for (const auto& each : ReadVectors("logits.json"))
    if (each["name"] == name) return each;
  return {};
}

std::string LoadError(const std::string& path) {
  const auto result = LoadCheckpoint(path);
  return result.ok() ? "" : result.error().message;
}

void ExpectError(const std::string& message, std::initializer_list<const char*> parts) {
  EXPECT_NE(message, "");
  for (const char* part : parts)
    EXPECT_NE(message.find(part), std::string::npos) << message << " lacks " << part;
}

// The case as two shards and an index.
Json WriteShards(const Json& vectors, const TemporaryFolder& folder) {
  const TensorMap tensors = MakeTensors(vectors["tensors"]);
  TensorMap shards[2];
  Json map;
  int i = 0;
  for (const auto& [name, tensor] : tensors) {
    const int shard = i++ % 2;
    shards[shard].emplace(name, tensor);
    map[name] = fmt::format("model-0000{}-of-00002.safetensors", shard + 1);
  }
  WriteBytes(folder / "config.json", vectors["config"].dump());
  for (int shard = 0; shard < 2; ++shard)
    WriteBytes(folder / fmt::format("model-0000{}-of-00002.safetensors", shard + 1),
               FormatSafetensors(shards[shard], ElementType::kF32));
  return {{"metadata", {{"total_size", 1}}}, {"weight_map", map}};
}

void WriteIndex(const Json& index, const TemporaryFolder& folder) {
  WriteBytes(folder / "model.safetensors.index.json", index.dump());
}

TEST(Import, ShardsAreOneModel) {
  const TemporaryFolder whole, sharded;
  const Json vectors = Case("llama");
  WriteModel(vectors, whole.path());
  WriteIndex(WriteShards(vectors, sharded), sharded);
  const auto one = LoadCheckpoint(whole.path()).value(),
             two = LoadCheckpoint(sharded.path()).value();
  EXPECT_EQ(two->files.size(), 2u);
  EXPECT_EQ(DecodeAll(one->weights.layers[1].down.weight),
            DecodeAll(two->weights.layers[1].down.weight));
}

TEST(Import, RefusesBrokenIndices) {
  const TemporaryFolder folder;
  const Json good = WriteShards(Case("llama"), folder);
  const auto message = [&](const Json& index) {
    WriteIndex(index, folder);
    return LoadError(folder.path());
  };
  EXPECT_EQ(message(good), "");
  const std::string name = "model.norm.weight", shard = good["weight_map"][name];
  const auto with = [&](const Json& where) {
    Json index = good;
    index["weight_map"][name] = where;
    return index;
  };
  ExpectError(message(with("model.safetensors.index.json")), {"model.norm.weight", "index.json"});
  ExpectError(message(with("../model.safetensors")), {"model.norm.weight", "../model"});
  ExpectError(message(with("absent.safetensors")), {"absent.safetensors"});
  ExpectError(message(with(7)), {"model.norm.weight"});
  ExpectError(message(with(shard == "model-00001-of-00002.safetensors"
                               ? "model-00002-of-00002.safetensors"
                               : "model-00001-of-00002.safetensors")),
              {"model.norm.weight", "model-00001", "model-00002"});
  ExpectError(message({{"weight_map", 3}}), {"weight_map"});
  ExpectError(message(Json::array()), {"weight_map"});
  // One shard twice under another name: every tensor stands twice.
  std::filesystem::copy_file(folder / "model-00001-of-00002.safetensors",
                             folder / "again.safetensors");
  ExpectError(message(with("again.safetensors")), {"stands in another shard too"});
}

TEST(Import, RefusesTensorsThatTheConfigurationDoesNotDescribe) {
  const Json vectors = Case("llama");
  const auto message = [&](const char* field, const Json& value) {
    const TemporaryFolder folder;
    Json changed = vectors;
    changed["config"][field] = value;
    WriteModel(changed, folder.path());
    return LoadError(folder.path());
  };
  ExpectError(message("num_hidden_layers", 3), {"layers.2.input_layernorm.weight", "missing"});
  ExpectError(message("num_hidden_layers", 100000), {"100000", "512"});
  ExpectError(message("intermediate_size", 32), {"mlp.gate_proj", "[24, 16]", "[32, 16]"});
  ExpectError(message("vocab_size", 30), {"embed_tokens", "[29, 16]", "[30, 16]"});
  ExpectError(message("num_key_value_heads", 3), {"4", "3"});
  ExpectError(message("hidden_act", "mystery"), {"hidden_act", "mystery"});
  ExpectError(message("model_type", "mystery"), {"model_type", "mystery"});
  ExpectError(message("rope_scaling", {{"rope_type", "yarn"}, {"factor", 2}}), {"yarn"});
  ExpectError(message("rms_norm_eps", -1), {"-1"});
  ExpectError(message("hidden_size", "wide"), {"hidden_size"});
}

TEST(Import, RefusesValuesThatAreNotFinite) {
  const TemporaryFolder folder;
  const Json vectors = Case("gpt2");
  TensorMap tensors = MakeTensors(vectors["tensors"]);
  tensors["transformer.h.1.mlp.c_fc.weight"].values[30] = INFINITY;
  WriteBytes(folder / "config.json", vectors["config"].dump());
  WriteBytes(folder / "model.safetensors", FormatSafetensors(tensors, ElementType::kF32));
  const auto checkpoint = LoadCheckpoint(folder.path()).value();
  const Status status = CheckAllFinite(*checkpoint);
  ASSERT_FALSE(status.ok());
  ExpectError(status.error().message, {"h.1.mlp.c_fc.weight", "[1, 6]", "inf"});
}

TEST(Import, UnusedTensorsAreNamed) {
  const TemporaryFolder folder;
  Json vectors = Case("bert");
  WriteModel(vectors, folder.path());
  const auto checkpoint = LoadCheckpoint(folder.path()).value();
  EXPECT_EQ(checkpoint->unused,
            (std::set<std::string>{"pooler.dense.bias", "pooler.dense.weight"}));
}

// Writes GGUF by hand, whatever is asked for.
class GgufWriter {
 public:
  template <typename T>
  GgufWriter& Add(T value) {
    const auto* at = reinterpret_cast<const std::uint8_t*>(&value);
    bytes.insert(bytes.end(), at, at + sizeof value);
    return *this;
  }
  GgufWriter& Text(const std::string& text) {
    Add<std::uint64_t>(text.size());
    for (const char c : text) bytes.push_back(static_cast<std::uint8_t>(c));
    return *this;
  }
  GgufWriter& Header(std::uint64_t tensors, std::uint64_t keys, std::uint32_t version = 3) {
    for (const char c : {'G', 'G', 'U', 'F'}) bytes.push_back(static_cast<std::uint8_t>(c));
    return Add(version).Add(tensors).Add(keys);
  }
  GgufWriter& Tensor(const std::string& name, std::vector<std::uint64_t> extents,
                     std::uint32_t type, std::uint64_t offset) {
    Text(name).Add(static_cast<std::uint32_t>(extents.size()));
    for (const std::uint64_t extent : extents) Add(extent);
    return Add(type).Add(offset);
  }
  GgufWriter& Data(std::size_t count) {
    bytes.resize((bytes.size() + 31) / 32 * 32 + count);
    return *this;
  }
  std::string Error() const {
    const auto file = GgufFile::Parse(bytes);
    return file.ok() ? "" : file.error().message;
  }

  std::vector<std::uint8_t> bytes;
};

TEST(Gguf, ReadsEveryTypeOfValue) {
  GgufWriter w;
  w.Header(0, 5).Text("i").Add(5u).Add(-7).Text("f").Add(6u).Add(0.5f).Text("b").Add(7u);
  w.Add<std::uint8_t>(1).Text("s").Add(8u).Text("hello").Text("a").Add(9u).Add(8u);
  w.Add<std::uint64_t>(2).Text("x").Text("yz");
  const GgufFile file = GgufFile::Parse(w.bytes).value();
  EXPECT_EQ(file.Integer("i").value(), -7);
  EXPECT_EQ(file.Number("f").value(), 0.5);
  EXPECT_EQ(file.Bool("b").value(), true);
  EXPECT_EQ(file.Text("s").value(), "hello");
  EXPECT_EQ(file.Texts("a").value()->at(1), "yz");
  EXPECT_EQ(file.Integer("absent").value(), std::nullopt);
  EXPECT_FALSE(file.Integer("f").ok());
  EXPECT_FALSE(file.Text("i").ok());
  EXPECT_FALSE(file.Numbers("a").ok());
}

TEST(Gguf, RefusesEveryMalformedFile) {
  const auto one = [](std::vector<std::uint64_t> extents, std::uint32_t type, std::uint64_t offset,
                      std::size_t data) {
    GgufWriter w;
    w.Header(1, 0).Tensor("t", std::move(extents), type, offset).Data(data);
    return w.Error();
  };
  EXPECT_EQ(one({8, 4}, 0, 0, 128), "");
  ExpectError(one({8, 4}, 0, 0, 127), {"\"t\"", "128", "127"});
  ExpectError(one({8, 4}, 0, 32, 160), {"\"t\"", "begins at 32"});
  ExpectError(one({8, 4}, 0, ~0ull, 128), {"\"t\"", "128"});
  ExpectError(one({8, 4}, 0, 0, 192), {"128 of 192"});
  ExpectError(one({8, 0}, 0, 0, 0), {"\"t\"", "extent 0"});
  ExpectError(one({1ull << 33, 1ull << 33}, 0, 0, 0), {"\"t\"", "8589934592"});
  ExpectError(one({}, 0, 0, 0), {"\"t\"", "0 dimensions"});
  ExpectError(one({1, 1, 1, 1, 1}, 0, 0, 4), {"\"t\"", "5 dimensions"});
  ExpectError(one({40, 1}, 2, 0, 18), {"\"t\"", "40", "32"});
  ExpectError(one({32}, 99, 0, 0), {"\"t\"", "99"});
  GgufWriter overlap;
  overlap.Header(2, 0).Tensor("t", {16}, 0, 0).Tensor("u", {16}, 0, 32).Data(96);
  ExpectError(overlap.Error(), {"\"u\"", "32", "64"});
  GgufWriter twice;
  twice.Header(2, 0).Tensor("t", {8}, 0, 0).Tensor("t", {8}, 0, 32).Data(64);
  ExpectError(twice.Error(), {"\"t\"", "twice"});
}

TEST(Gguf, RefusesMalformedMetadata) {
  const auto key = [](auto write) {
    GgufWriter w;
    w.Header(0, 1).Text("k");
    write(w);
    return w.Error();
  };
  ExpectError(key([](GgufWriter& w) { w.Add(13u); }), {"\"k\"", "13"});
  ExpectError(key([](GgufWriter& w) { w.Add(9u).Add(9u).Add<std::uint64_t>(1); }),
              {"\"k\"", "arrays"});
  ExpectError(key([](GgufWriter& w) { w.Add(9u).Add(4u).Add(~0ull); }), {"\"k\"", "4 bytes"});
  ExpectError(key([](GgufWriter& w) { w.Add(9u).Add(8u).Add(~0ull); }), {"k"});
  ExpectError(key([](GgufWriter& w) { w.Add(8u).Add(~0ull); }), {"k", "18446744073709551615"});
  ExpectError(GgufWriter().Header(0, 0, 1).Error(), {"version 1"});
  ExpectError(GgufWriter().Header(0, 0, 0x03000000).Error(), {"version"});
  ExpectError(GgufWriter().Header(1ull << 40, 0).Error(), {"tensors", "65536"});
  ExpectError(GgufWriter().Header(0, ~0ull).Error(), {"keys", "65536"});
  GgufWriter twice;
  twice.Header(0, 2).Text("k").Add(4u).Add(1u).Text("k").Add(4u).Add(1u);
  ExpectError(twice.Error(), {"\"k\"", "twice"});
  GgufWriter alignment;
  alignment.Header(0, 1).Text("general.alignment").Add(4u).Add(24u);
  ExpectError(alignment.Error(), {"general.alignment", "24"});
}

TEST(Gguf, SurvivesTruncationAndFlippedBits) {
  const auto file = MappedFile::Open(VectorPath("llama.gguf")).value();
  const std::vector<std::uint8_t> good(file->bytes().begin(), file->bytes().end());
  for (std::size_t n = 0; n < good.size(); n += 13)
    EXPECT_FALSE(GgufFile::Parse(std::span(good).first(n)).ok()) << n;
  std::mt19937_64 random(5);
  for (int i = 0; i < 4000; ++i) {
    auto bad = good;
    bad[random() % 4000] ^= static_cast<std::uint8_t>(1u << random() % 8);
    const auto parsed = GgufFile::Parse(bad);
    if (!parsed.ok()) continue;
    const auto architecture = GgufArchitecture(*parsed);
    if (architecture.ok())
      (void)BindWeights(*architecture, GgufNames(*architecture), parsed->tensors());
  }
}

}  // namespace
}  // namespace polyveil::model::hub
