// Files as they come from outside: sharded, broken, hostile.
#include "model/formats/checkpoint.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "model/formats/gguf_fixture.h"
#include "model/formats/released_fixture.h"

namespace polyveil::model {
namespace {

using Json = nlohmann::json;

Json CheckpointCase(const std::string& name) {
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
  const Json vectors = CheckpointCase("llama");
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
  const Json good = WriteShards(CheckpointCase("llama"), folder);
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
  const Json vectors = CheckpointCase("llama");
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
  const Json vectors = CheckpointCase("gpt2");
  TensorMap tensors = MakeTensors(vectors["tensors"]);
  tensors["transformer.h.1.mlp.c_fc.weight"].values[30] = INFINITY;
  tensors["transformer.h.1.mlp.c_proj.weight"].values[3] = NAN;
  WriteBytes(folder / "config.json", vectors["config"].dump());
  WriteBytes(folder / "model.safetensors", FormatSafetensors(tensors, ElementType::kF32));
  const auto checkpoint = LoadCheckpoint(folder.path()).value();
  const Status status = CheckAllFinite(*checkpoint);
  ASSERT_FALSE(status.ok());
  ExpectError(status.error().message,
              {"h.1.mlp.c_fc.weight", "1 of 384", "[1, 6]", "inf", "1 other tensors"});
}

TEST(Import, UnusedTensorsAreNamed) {
  const TemporaryFolder folder;
  Json vectors = CheckpointCase("bert");
  WriteModel(vectors, folder.path());
  const auto checkpoint = LoadCheckpoint(folder.path()).value();
  EXPECT_EQ(checkpoint->unused,
            (std::set<std::string>{"pooler.dense.bias", "pooler.dense.weight"}));
}

// Writes the case with its tensors changed.
template <typename Change>
std::string LoadErrorWith(const Json& vectors, Change change) {
  const TemporaryFolder folder;
  TensorMap tensors = MakeTensors(vectors["tensors"]);
  change(tensors);
  WriteBytes(folder / "config.json", vectors["config"].dump());
  WriteBytes(folder / "model.safetensors", FormatSafetensors(tensors, ElementType::kF32));
  return LoadError(folder.path());
}

TEST(Import, WeightsWithoutAPlaceAreRefused) {
  const Json llama = CheckpointCase("llama");
  const auto add = [](const char* name) {
    return [name](TensorMap& tensors) { tensors[name] = MakeTensor(name, {4}); };
  };
  for (const char* weight :
       {"model.layers.0.self_attn.q_norm.weight", "model.layers.1.self_attn.q_proj.bias",
        "model.layers.2.input_layernorm.weight", "lm_head.bias", "model.embed_positions.weight"})
    ExpectError(LoadErrorWith(llama, add(weight)), {weight, "[4]", "no place"});
  for (const char* known :
       {"model.layers.0.self_attn.rotary_emb.inv_freq", "score.weight", "v_head.summary.weight"})
    EXPECT_EQ(LoadErrorWith(llama, add(known)), "") << known;
  EXPECT_EQ(LoadErrorWith(CheckpointCase("gpt2"), add("transformer.h.0.attn.bias")), "");
  EXPECT_EQ(LoadErrorWith(CheckpointCase("bert"), add("cls.predictions.bias")), "");
  // One weight under two names, and two models in one file.
  ExpectError(LoadErrorWith(llama, [](TensorMap& t) { t["norm.weight"] = t["model.norm.weight"]; }),
              {"model.norm.weight", "\"norm.weight\"", "one weight"});
  ExpectError(LoadErrorWith(llama,
                            [](TensorMap& t) {
                              const std::string name = "layers.0.self_attn.o_proj.weight";
                              t[name] = t["model." + name];
                            }),
              {"two models"});
}

// The prefixes of savers: the class with a head, the model alone, distributed and compiled
// training.
TEST(Import, PrefixesOfSaversAreFound) {
  const auto renamed = [](const std::string& name, const std::string& from, const std::string& to) {
    return LoadErrorWith(CheckpointCase(name), [&](TensorMap& tensors) {
      TensorMap out;
      for (auto& [key, tensor] : tensors) {
        const bool begins = key.starts_with(from);
        out.emplace(begins ? to + key.substr(from.size()) : key, std::move(tensor));
      }
      tensors = std::move(out);
    });
  };
  for (const auto& [name, prefix] : {std::pair{"gpt2", "transformer."},
                                     {"gpt_neox", "gpt_neox."},
                                     {"llama", "model."},
                                     {"qwen2", "model."},
                                     {"mistral", "model."},
                                     {"opt", "model.decoder."},
                                     {"bert classifier", "bert."},
                                     {"roberta classifier", "roberta."},
                                     {"distilbert classifier", "distilbert."}}) {
    EXPECT_EQ(renamed(name, prefix, ""), "") << name;
    EXPECT_EQ(renamed(name, "", "module."), "") << name;
    EXPECT_EQ(renamed(name, "", "_orig_mod."), "") << name;
  }
  EXPECT_EQ(renamed("opt", "model.decoder.", "decoder."), "");
  EXPECT_EQ(renamed("bert", "", "bert."), "");
  EXPECT_NE(renamed("llama", "model.", "other."), "");
}

// A tied head may stand under either name, under both, or differ: the file's word counts.
TEST(Import, TiedHeadsUnderEitherName) {
  const Json vectors = CheckpointCase("llama 3");  // tied: no lm_head.weight
  const std::string embedding = "model.embed_tokens.weight", head = "lm_head.weight";
  const auto load = [&](auto change) {
    const TemporaryFolder folder;
    TensorMap tensors = MakeTensors(vectors["tensors"]);
    change(tensors);
    WriteBytes(folder / "config.json", vectors["config"].dump());
    WriteBytes(folder / "model.safetensors", FormatSafetensors(tensors, ElementType::kF32));
    const auto checkpoint = LoadCheckpoint(folder.path()).value();
    return std::pair(checkpoint->architecture.tied_head,
                     DecodeAll(checkpoint->weights.head.weight));
  };
  const auto usual = load([](TensorMap&) {});
  EXPECT_TRUE(usual.first);
  EXPECT_EQ(load([&](TensorMap& t) {
              t[head] = t[embedding];
              t.erase(embedding);
            }),
            usual);
  EXPECT_EQ(load([&](TensorMap& t) { t[head] = t[embedding]; }), usual);
  const auto own = load([&](TensorMap& t) { t[head] = MakeTensor(head, t[embedding].shape); });
  EXPECT_FALSE(own.first);
  EXPECT_NE(own.second, usual.second);
}

// A model that was saved anew over shards leaves their index behind.
TEST(Import, OneFileComesBeforeAnIndex) {
  const TemporaryFolder folder;
  const Json vectors = CheckpointCase("llama");
  WriteIndex(WriteShards(vectors, folder), folder);
  TensorMap tensors = MakeTensors(vectors["tensors"]);
  tensors["lm_head.weight"].values[0] = 7;
  WriteBytes(folder / "model.safetensors", FormatSafetensors(tensors, ElementType::kF32));
  EXPECT_EQ(DecodeAll(LoadCheckpoint(folder.path()).value()->weights.head.weight)[0], 7);
}

TEST(Import, NothingIsAllocatedFromTheContextOfRotaryPositions) {
  Json vectors = CheckpointCase("llama");
  vectors["config"]["max_position_embeddings"] = 4194304;
  vectors["config"]["rope_theta"] = 45820000000.0;
  const TemporaryFolder folder;
  WriteModel(vectors, folder.path());
  EXPECT_EQ(LoadCheckpoint(folder.path()).value()->architecture.context, 4194304);
}

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
  ExpectError(one({256}, 16, 0, 66), {"\"t\"", "IQ2_XXS"});
  ExpectError(one({256}, 35, 0, 66), {"\"t\"", "TQ2_0"});
  ExpectError(one({128}, 13, 0, 88), {"\"t\"", "128", "256"});
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
}  // namespace polyveil::model
