// Metadata of GGUF files: used, irrelevant or refused by name.
#include <gtest/gtest.h>

#include "model/formats/checkpoint.h"
#include "model/formats/gguf_fixture.h"
#include "model/formats/released_fixture.h"

namespace polyveil::model {
namespace {

// Errors: of the parser, or of the architecture.
Result<Architecture> ReadArchitecture(const GgufModel& model) {
  const auto bytes = model.Bytes();
  PV_ASSIGN_OR_RETURN(const GgufFile file, GgufFile::Parse(bytes));
  return GgufArchitecture(file);
}

void ExpectRefused(const GgufModel& model, std::initializer_list<const char*> parts) {
  const auto read = ReadArchitecture(model);
  ASSERT_FALSE(read.ok());
  for (const char* part : parts)
    EXPECT_NE(read.error().message.find(part), std::string::npos)
        << read.error().message << " lacks " << part;
}

TEST(GgufConfig, EveryQuantisedTypeIsBound) {
  const TemporaryFolder folder;
  WriteBytes(folder / "m.gguf", BlockLlama().Bytes());
  const auto checkpoint = LoadCheckpoint(folder / "m.gguf").value();
  EXPECT_EQ(checkpoint->architecture.n_layers, 7);
  EXPECT_EQ(checkpoint->elements_by_type.size(), 16u);  // F32, F16, BF16, six of 32, seven of 256
  for (const LayerWeights& layer : checkpoint->weights.layers)
    EXPECT_EQ(DecodeAll(layer.down.weight).size(), 32u * 256);
}

TEST(GgufConfig, LinearScalingUnderEveryName) {
  const auto factor = [](const GgufModel& model) {
    return ReadArchitecture(model).value().rotary->linear_factor;
  };
  const std::string name = "llama.rope.scaling.factor", old = "llama.rope.scale_linear",
                    type = "llama.rope.scaling.type";
  EXPECT_EQ(factor(BlockLlama()), 1);
  EXPECT_EQ(factor(BlockLlama().Set(name, 4.0f)), 4);
  EXPECT_EQ(factor(BlockLlama().Set(old, 4.0f)), 4);
  EXPECT_EQ(factor(BlockLlama().Set(old, 4.0f).Set(name, 4.0f)), 4);
  EXPECT_EQ(factor(BlockLlama().Set(name, 4.0f).Set(type, "linear")), 4);
  EXPECT_EQ(factor(BlockLlama().Set(name, 4.0f).Set(type, "none")), 1);
  EXPECT_EQ(factor(BlockLlama().Set(name, 0.0f)), 1);
  ExpectRefused(BlockLlama().Set(old, 4.0f).Set(name, 2.0f), {"rope.scaling.factor", "2", "4"});
  ExpectRefused(BlockLlama().Set(type, "linear"), {"rope.scaling.factor", "missing"});
  ExpectRefused(BlockLlama().Set(type, "yarn").Set(name, 4.0f), {"rope.scaling.type", "yarn"});
}

TEST(GgufConfig, UnknownKeysAreRefusedByName) {
  for (const char* key :
       {"llama.attention.scale", "llama.logit_scale", "llama.rope.scaling.attn_factor",
        "llama.attention.clamp_kqv", "llama.expert_weights_scale", "clip.use_gelu"})
    ExpectRefused(BlockLlama().Set(key, 2.0f), {key, "not known"});
  ExpectRefused(BlockLlama().Set("llama.expert_count", 8u), {"expert_count", "8"});
  ExpectRefused(BlockLlama().Set("llama.attention.causal", false), {"attention.causal"});
  ExpectRefused(BlockLlama().Set("llama.vocab_size", 31u), {"vocab_size", "31", "32"});
  ExpectRefused(BlockLlama().Set("general.type", "adapter"), {"general.type", "adapter"});
  ExpectRefused(BlockLlama().Set("split.count", 3u), {"split.count", "3"});
  ExpectRefused(BlockLlama().Set("general.quantization_version", 3u),
                {"quantization_version", "3"});
  ExpectRefused(BlockLlama().Set("general.architecture", "opt"), {"general.architecture", "opt"});
}

TEST(GgufConfig, NamesLicencesAndOriginsAreIrrelevant) {
  EXPECT_TRUE(ReadArchitecture(BlockLlama()
                                   .Set("general.name", "x")
                                   .Set("general.type", "model")
                                   .Set("general.quantization_version", 2u)
                                   .Set("quantize.imatrix.file", "x")
                                   .Set("llama.tensor_data_layout", "Meta AI original pth")
                                   .Set("llama.rope.scaling.finetuned", true)
                                   .Set("split.count", 1u))
                  .ok());
}

TEST(GgufConfig, SlidingWindowsEndTheContext) {
  const auto a = ReadArchitecture(BlockLlama().Set("llama.attention.sliding_window", 16u)).value();
  EXPECT_EQ(a.context, 16);
  EXPECT_EQ(a.window, 16);
}

}  // namespace
}  // namespace polyveil::model
