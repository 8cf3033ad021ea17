// An adapter's folder against the same update added to the base's file; what is refused.
#include "model/formats/adapter.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "model/decoder_reference.h"
#include "model/formats/checkpoint.h"
#include "model/import/constant_prefix.h"
#include "model/import/decoder_files.h"
#include "model/import/fitted_fixture.h"
#include "model/sha256.h"

namespace polyveil::model {
namespace {

// Normal enough and the same everywhere.
Tensor Values(std::vector<std::int64_t> shape, std::uint64_t seed, double size) {
  std::mt19937_64 random(seed);
  Tensor out{std::move(shape), {}};
  for (std::int64_t i = 0; i < out.size(); ++i)
    out.values.push_back(RoundToHalf(size * (static_cast<double>(random() >> 11) * 0x1p-52 - 1)));
  return out;
}

// Updates of every matrix of the blocks and other gains.
TensorMap MakeAdapter(const TensorViews& base, int rank) {
  TensorMap out;
  std::uint64_t seed = 1;
  for (const auto& [name, view] : base) {
    const bool block = name.find("layers.") != std::string::npos ||
                       name.find("h.") != std::string::npos || name.starts_with("blk.");
    if (!block || !name.ends_with("weight")) continue;
    if (view.shape.size() == 1) {
      out[name] = Values(view.shape, ++seed, 0.1);
      for (double& value : out[name].values) value = RoundToHalf(value + 1);
    } else {
      out[name + kRightSuffix] = Values({rank, view.cols()}, ++seed, 0.3);
      out[name + kLeftSuffix] = Values({view.rows(), rank}, ++seed, 0.1);
    }
  }
  return out;
}

// What the adapter makes of the base's tensors, in float64.
TensorMap Folded(TensorMap base, const TensorMap& adapter) {
  for (auto& [name, tensor] : base) {
    if (const auto own = adapter.find(name); own != adapter.end()) tensor = own->second;
    const auto left = adapter.find(name + kLeftSuffix), right = adapter.find(name + kRightSuffix);
    if (left == adapter.end()) continue;
    const std::int64_t rank = right->second.shape[0], cols = tensor.shape[1];
    for (std::int64_t i = 0; i < tensor.size(); ++i)
      for (std::int64_t k = 0; k < rank; ++k)
        tensor.values[static_cast<std::size_t>(i)] +=
            left->second.values[static_cast<std::size_t>(i / cols * rank + k)] *
            right->second.values[static_cast<std::size_t>(k * cols + i % cols)];
  }
  return base;
}

// folder/base is a case; folder/folded the same with the update in its file, fitted; folder/adapted
// the adapter with the folded model's forms.
struct Adapted {
  TemporaryFolder folder;
  nlohmann::json vectors;
  TensorMap adapter;

  explicit Adapted(const std::string& name, int rank = 3) : vectors(ReadCase(name)) {
    for (const char* part : {"base", "folded", "adapted"})
      std::filesystem::create_directory(folder / part);
    WriteModel(vectors, Base());
    const auto base = LoadCheckpoint(Base()).value();
    adapter = MakeAdapter(base->tensors, rank);
    WriteBytes(folder / "folded/config.json", vectors["config"].dump());
    WriteBytes(
        folder / "folded/model.safetensors",
        FormatSafetensors(Folded(MakeTensors(vectors["tensors"]), adapter), ElementType::kF32));
    ConvertedForms forms = FittedForms(FoldedFolder());
    forms.weights.reset();
    WriteForms(FoldedFolder(), forms);
    forms.weights = {"base", WeightsSha256(*base)};
    WriteForms(Folder(), forms);
    Write();
  }
  void Write(ElementType type = ElementType::kF16) {
    WriteBytes(Folder() + "/adapter.safetensors", FormatSafetensors(adapter, type));
  }
  void Link() { std::filesystem::create_directory_symlink(Base(), Folder() + "/base"); }
  std::string Base() const { return folder / "base"; }
  std::string FoldedFolder() const { return folder / "folded"; }
  std::string Folder() const { return folder / "adapted"; }
  Error Refused() const {
    const auto decoder = LoadDecoder(Base(), {.adapter = Folder()});
    EXPECT_FALSE(decoder.ok());
    return decoder.ok() ? Error{ErrorCode::kIo, ""} : decoder.error();
  }
};

void ExpectRefused(const Adapted& adapted, ErrorCode code,
                   std::initializer_list<const char*> parts) {
  const Error error = adapted.Refused();
  EXPECT_EQ(error.code, code) << error.message;
  for (const char* part : parts)
    EXPECT_NE(error.message.find(part), std::string::npos) << error.message << " lacks " << part;
}

// Weights are rounded to float32 after the sum here, before it in the folded file: a few 2^-24 of
// values around 1, through two blocks.
TEST(Adapter, EqualsTheFoldedModelInEveryFamily) {
  for (const char* name : {"llama", "gpt2", "gpt_neox"}) {
    SCOPED_TRACE(name);
    Adapted adapted(name);
    const auto a = LoadDecoder(adapted.Base(), {.adapter = adapted.Folder()}).value();
    const auto b = LoadDecoder(adapted.FoldedFolder()).value();
    EXPECT_EQ(a->name, "adapted");
    EXPECT_NE(a->digest, b->digest);
    DecoderReference x(*a), y(*b);
    const auto checkpoint = LoadCheckpoint(adapted.FoldedFolder()).value();
    std::vector<std::int32_t> tokens = checkpoint->forms->prefix;
    const std::size_t prefix = tokens.size();
    // Of the text that the polynomials were fitted on.
    const TokenLists fitted = RandomTokens(checkpoint->architecture.vocab_size, 1, 8, 1);
    tokens.insert(tokens.end(), fitted[0].begin(), fitted[0].end());
    const auto inputs = EmbedTokens(*checkpoint, tokens).value();
    for (std::size_t t = prefix; t < tokens.size(); ++t) {
      const std::vector<double> one = x.Step(inputs[t]).value(), other = y.Step(inputs[t]).value();
      for (std::size_t i = 0; i < one.size(); ++i) EXPECT_NEAR(one[i], other[i], 2e-5) << t;
    }
  }
}

TEST(Adapter, AFolderNamesItsBaseAndLeavesItAsItIs) {
  Adapted adapted("llama");
  EXPECT_EQ(LoadDecoder(adapted.Folder()).error().code, ErrorCode::kNotFound);
  adapted.Link();
  const auto linked = LoadDecoder(adapted.Folder() + "/").value();
  EXPECT_EQ(linked->digest,
            LoadDecoder(adapted.Base(), {.adapter = adapted.Folder()}).value()->digest);
  const auto base = LoadCheckpoint(adapted.Folder() + "/base").value();
  EXPECT_FALSE(base->forms.has_value());
  EXPECT_TRUE(base->adapter_sha256.empty());
  EXPECT_EQ(base->weights.layers[0].up.weight.update, nullptr);
  const auto with = LoadCheckpoint(adapted.Folder()).value();
  EXPECT_NE(with->weights.layers[0].up.weight.update, nullptr);
  EXPECT_EQ(WeightsSha256(*with), WeightsSha256(*base));
}

// Blocks of a quantised row, rows of the file's own order.
TEST(Adapter, ServesGgufFilesAndTheirTiles) {
  const TemporaryFolder folder;
  std::filesystem::copy(VectorPath("llama.gguf"), folder / "a.gguf");
  const auto base = LoadCheckpoint(folder / "a.gguf").value();
  ConvertedForms forms = FittedForms(folder / "a.gguf");
  WriteForms(folder.path(), forms);
  ASSERT_TRUE(LoadCheckpoint(folder / "a.gguf").value()->forms.has_value());
  const TensorMap adapter = MakeAdapter(base->tensors, 2);
  WriteBytes(folder / "adapter.safetensors", FormatSafetensors(adapter, ElementType::kF16));
  EXPECT_FALSE(LoadCheckpoint(folder / "a.gguf").value()->forms.has_value());
  const auto adapted = LoadCheckpoint(folder.path()).value();
  const TensorView& view = adapted->weights.layers[1].down.weight;
  TensorMap one{{view.name, {view.shape, {}}}};
  for (const float value : DecodeAll(base->weights.layers[1].down.weight))
    one[view.name].values.push_back(value);
  const Tensor wanted = Folded(one, adapter).at(view.name);
  const std::vector<float> whole = DecodeAll(view);
  std::vector<float> tile(static_cast<std::size_t>(view.cols()));
  DecodeTile(view, 3, 1, 0, view.cols(), tile.data());
  for (std::size_t i = 0; i < whole.size(); ++i) EXPECT_NEAR(whole[i], wanted.values[i], 1e-6);
  EXPECT_TRUE(std::equal(tile.begin(), tile.end(), whole.begin() + 3 * view.cols()));
}

TEST(Adapter, RefusesAnotherBaseByBothDigests) {
  Adapted adapted("llama");
  const std::string was = LoadForms(adapted.Folder()).value()->weights->sha256;
  WriteModel(adapted.vectors, adapted.Base(), ElementType::kF16);
  const std::string is = WeightsSha256(*LoadCheckpoint(adapted.Base()).value());
  ExpectRefused(adapted, ErrorCode::kMismatch, {was.c_str(), is.c_str()});
  EXPECT_FALSE(LoadCheckpoint(adapted.Base(), adapted.Folder()).ok());
}

TEST(Adapter, RefusesTensorsThatDoNotFitByNameAndBothShapes) {
  const std::string up = "model.layers.1.mlp.up_proj.weight";
  const auto refused = [&](ErrorCode code, std::initializer_list<const char*> parts,
                           const std::function<void(TensorMap&)>& change) {
    Adapted adapted("llama");
    change(adapted.adapter);
    adapted.Write();
    ExpectRefused(adapted, code, parts);
  };
  const std::string right = up + kRightSuffix, left = up + kLeftSuffix;
  const auto base = LoadCheckpoint(Adapted("llama").Base());
  refused(ErrorCode::kMismatch, {right.c_str(), "[3, 17]", "[24, 16]"}, [&](TensorMap& t) {
    t[right] = Values({3, 17}, 1, 1);
  });
  refused(ErrorCode::kMismatch, {left.c_str(), "[25, 3]", "[24, 16]"}, [&](TensorMap& t) {
    t[left] = Values({25, 3}, 1, 1);
  });
  refused(ErrorCode::kMismatch, {left.c_str(), "[24, 4]", "[3, 16]"}, [&](TensorMap& t) {
    t[left] = Values({24, 4}, 1, 1);
  });
  refused(ErrorCode::kMismatch, {right.c_str(), left.c_str()},
          [&](TensorMap& t) { t.erase(left); });
  refused(ErrorCode::kMismatch, {left.c_str(), right.c_str()},
          [&](TensorMap& t) { t.erase(right); });
  refused(ErrorCode::kOutOfRange, {"rank 1025"}, [&](TensorMap& t) {
    t[right] = Values({1025, 16}, 1, 1);
    t[left] = Values({24, 1025}, 1, 1);
  });
  refused(ErrorCode::kNotFound, {"model.layers.2.x"},
          [&](TensorMap& t) { t["model.layers.2.x"] = Values({3}, 1, 1); });
  refused(ErrorCode::kMismatch, {"model.norm.weight", "[15]", "[16]"},
          [&](TensorMap& t) { t["model.norm.weight"] = Values({15}, 1, 1); });
  refused(ErrorCode::kMismatch, {up.c_str(), "[24, 16]"}, [&](TensorMap& t) {
    t[up] = Values({24, 16}, 1, 1);
  });
  refused(ErrorCode::kMismatch, {"embed_tokens", "no matrix of a block"}, [&](TensorMap& t) {
    t["model.embed_tokens.weight.lora_a"] = Values({1, 16}, 1, 1);
    t["model.embed_tokens.weight.lora_b"] = Values({29, 1}, 1, 1);
  });
}

// A client has them from the base's file.
TEST(Adapter, RefusesUpdatesOfAClassifiersHead) {
  Adapted adapted("bert classifier");
  const auto base = LoadCheckpoint(adapted.Base()).value();
  for (const Linear* linear : {&base->weights.pooler, &base->weights.classifier}) {
    const TensorView& view = linear->weight;
    adapted.adapter.clear();
    adapted.adapter[view.name + kRightSuffix] = Values({1, view.cols()}, 1, 1);
    adapted.adapter[view.name + kLeftSuffix] = Values({view.rows(), 1}, 2, 1);
    adapted.Write();
    ExpectRefused(adapted, ErrorCode::kMismatch, {view.name.c_str(), "no matrix of a block"});
  }
}

TEST(Adapter, RefusesWhatIsNoAdapter) {
  Adapted adapted("llama");
  adapted.adapter["model.norm.weight"] = Values({16}, 1, 1);
  adapted.adapter["model.norm.weight"].values[3] = INFINITY;
  adapted.Write();
  ExpectRefused(adapted, ErrorCode::kCorrupt, {"model.norm.weight", "not finite"});
  adapted.adapter["model.norm.weight"].values[3] = 1;
  adapted.Write(ElementType::kF64);
  ExpectRefused(adapted, ErrorCode::kCorrupt, {"F64"});
  adapted.Write();
  ConvertedForms forms = LoadForms(adapted.Folder()).value().value();
  forms.weights.reset();
  WriteForms(adapted.Folder(), forms);
  ExpectRefused(adapted, ErrorCode::kMismatch, {"names no base"});
  std::filesystem::remove(adapted.Folder() + "/forms.json");
  ExpectRefused(adapted, ErrorCode::kMismatch, {"no forms.json"});
}

// Every cut and every changed byte of the header is refused or is another adapter; none is read
// beyond its end.
TEST(Adapter, CutAndChangedFilesAreRefusedOrRead) {
  Adapted adapted("llama");
  const auto whole = FormatSafetensors(adapted.adapter, ElementType::kF16);
  const std::string path = adapted.Folder() + "/adapter.safetensors";
  std::mt19937_64 random(7);
  int refused = 0;
  for (int i = 0; i < 200; ++i) {
    std::vector<std::uint8_t> bytes(whole.begin(),
                                    whole.begin() + static_cast<long>(random() % whole.size()));
    if (i % 2 == 0) {
      bytes = whole;
      bytes[random() % 3000] ^= static_cast<std::uint8_t>(1 + random() % 255);
    }
    WriteBytes(path, bytes);
    const auto loaded = LoadCheckpoint(adapted.Base(), adapted.Folder());
    refused += !loaded.ok();
    EXPECT_TRUE(i % 2 == 0 || !loaded.ok()) << i;
  }
  EXPECT_GT(refused, 150);
}

}  // namespace
}  // namespace polyveil::model
