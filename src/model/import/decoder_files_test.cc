// Which files make a decoder, and which are refused.
#include "model/import/decoder_files.h"

#include <gtest/gtest.h>

#include "model/decoder_reference.h"
#include "model/import/fitted_fixture.h"

namespace polyveil::model {
namespace {

Error Refused(const std::string& path, const DecoderOptions& options = {}) {
  const auto decoder = LoadDecoder(path, options);
  EXPECT_FALSE(decoder.ok()) << path;
  return decoder.ok() ? Error{ErrorCode::kIo, ""} : decoder.error();
}

void ExpectIn(const std::string& part, const std::string& text) {
  EXPECT_NE(text.find(part), std::string::npos) << text;
}

TEST(DecoderFiles, FillsInWhatAServerNeeds) {
  const TemporaryFolder folder;
  WriteFittedModel(ReadCase("llama"), folder.path());
  const auto forms = LoadForms(folder.path()).value().value();
  const auto decoder = LoadDecoder(folder.path() + "/").value();
  EXPECT_EQ(decoder->name, std::filesystem::path(folder.path()).filename());
  EXPECT_EQ(decoder->digest.size(), 64u);
  EXPECT_EQ(decoder->blocks.size(), 2u);
  EXPECT_EQ(decoder->width(), 16);
  EXPECT_EQ(decoder->prefix(), 1);
  EXPECT_EQ(decoder->context, 10);  // of the texts that were fitted
  EXPECT_EQ(decoder->margin, 2);
  EXPECT_EQ(decoder->residual_bound, forms.residual_bound);
  EXPECT_EQ(decoder->certificate->heldout_positions, 20u);
  EXPECT_EQ(LoadDecoder(folder.path(), {.context = 19}).value()->context, 19);
  EXPECT_EQ(Refused(folder.path(), {.context = 20}).message,
            "context = 20 > 19, the model's behind 1 tokens");
}

// Forms as the trainer's conversion wrote them before they named their weights.
TEST(DecoderFiles, TakesFormsThatNameNoWeights) {
  const TemporaryFolder folder;
  WriteModel(ReadCase("llama linear"), folder.path());
  ConvertedForms forms = FittedForms(folder.path());
  WriteForms(folder.path(), forms);
  const std::string digest = LoadDecoder(folder.path()).value()->digest;
  forms.weights.reset();
  forms.certificate.reset();
  forms.context = 0;
  WriteForms(folder.path(), forms);
  const auto decoder = LoadDecoder(folder.path()).value();
  EXPECT_EQ(decoder->context, 19);
  EXPECT_FALSE(decoder->certificate.has_value());
  EXPECT_EQ(decoder->digest, digest)
      << "what is known of the forms is no part of what they compute";
}

TEST(DecoderFiles, TheDigestIsOfWhatIsComputedHoweverFilesAreCut) {
  const TemporaryFolder whole, cut, other;
  const auto vectors = ReadCase("llama");
  WriteFittedModel(vectors, whole.path());
  const std::string digest = LoadDecoder(whole.path()).value()->digest;

  WriteBytes(cut / "config.json", vectors["config"].dump());
  std::filesystem::copy(whole / "forms.json", cut / "forms.json");
  TensorMap tensors = MakeTensors(vectors["tensors"]), first;
  nlohmann::json index;
  for (int i = 0; i < 3; ++i) {
    const std::string name = tensors.begin()->first;
    first.insert(tensors.extract(name));
  }
  for (const auto& [name, tensor] : tensors) index["weight_map"][name] = "b.safetensors";
  for (const auto& [name, tensor] : first) index["weight_map"][name] = "a.safetensors";
  WriteBytes(cut / "a.safetensors", FormatSafetensors(first, ElementType::kF32));
  WriteBytes(cut / "b.safetensors", FormatSafetensors(tensors, ElementType::kF32));
  WriteBytes(cut / "model.safetensors.index.json", index.dump());
  EXPECT_EQ(LoadDecoder(cut.path()).value()->digest, digest);

  WriteModel(vectors, other.path(), ElementType::kF16);
  WriteForms(other.path(), FittedForms(other.path()));
  EXPECT_NE(LoadDecoder(other.path()).value()->digest, digest);
  // The same weights and other polynomials.
  ConvertedForms forms = LoadForms(whole.path()).value().value();
  forms.layers[1].shift[0] += 1;
  WriteForms(whole.path(), forms);
  EXPECT_NE(LoadDecoder(whole.path()).value()->digest, digest);
}

TEST(DecoderFiles, NamesTheCommandThatMakesAModelPolynomial) {
  const TemporaryFolder folder;
  WriteModel(ReadCase("llama"), folder.path());
  const Error softmax = Refused(folder.path());
  EXPECT_EQ(softmax.code, ErrorCode::kInvalidArgument);
  ExpectIn("attention is softmax", softmax.message);
  ExpectIn("polyveil fit", softmax.message);
  ExpectIn("polyveil-train distil", softmax.message);
  ExpectIn("polyveil fit", Refused(VectorPath("llama.gguf")).message);

  ConvertedForms forms = FittedForms(folder.path());
  forms.stage = FormStage::kPower;
  WriteForms(folder.path(), forms);
  const Error power = Refused(folder.path());
  ExpectIn("stage is power", power.message);
  ExpectIn("polyveil-train distil", power.message);
}

TEST(DecoderFiles, LoadsEncoders) {
  for (const char* name : {"bert", "roberta classifier", "distilbert"}) {
    const TemporaryFolder folder;
    WriteModel(ReadCase(name), folder.path());
    ExpectIn("attention is softmax", Refused(folder.path()).message);
    WriteForms(folder.path(), FittedForms(folder.path()));
    const auto decoder = LoadDecoder(folder.path()).value();
    EXPECT_FALSE(decoder->causal());
    EXPECT_EQ(decoder->prefix(), 0);
    for (const Block& block : decoder->blocks)
      EXPECT_EQ(block.shape.norm_outside, &block == &decoder->blocks.back());
  }
}

TEST(DecoderFiles, LoadsHeadsOfClassifiers) {
  for (const char* name : {"bert classifier", "roberta classifier"}) {
    SCOPED_TRACE(name);
    const TemporaryFolder folder;
    WriteModel(ReadCase(name), folder.path());
    ConvertedForms forms = FittedForms(folder.path());
    ASSERT_TRUE(forms.head.has_value());
    WriteForms(folder.path(), forms);
    const auto checkpoint = LoadCheckpoint(folder.path()).value();
    const auto decoder = LoadDecoder(folder.path(), {.head = true}).value();
    ASSERT_NE(decoder->head, nullptr);
    EXPECT_EQ(decoder->head->labels(), static_cast<int>(checkpoint->architecture.labels.size()));
    EXPECT_EQ(LoadDecoder(folder.path()).value()->head, nullptr);
    // Zeros are covered: what stands where no text begins.
    for (const double logit : decoder->head->Logits(std::vector<double>(decoder->width())))
      EXPECT_LE(std::abs(logit), forms.head->bound);

    const std::string whole = FormatForms(LoadForms(folder.path()).value().value());
    forms.head.reset();
    WriteForms(folder.path(), forms);
    const auto without = LoadDecoder(folder.path(), {.head = true});
    EXPECT_EQ(without.error().code, ErrorCode::kNotFound);
    ExpectIn("forms.head is not there: 'polyveil fit", without.error().message);
    // Fitted behind the others it is as the model's polynomials leave it.
    const ConvertedForms added = FittedForms(folder.path());
    ASSERT_TRUE(added.head.has_value());
    EXPECT_EQ(FormatForms(added), whole);
  }
}

TEST(DecoderFiles, RefusesHeadsThatAreNotThereByName) {
  for (const auto& [name, words] : {std::pair{"bert", "has no classifier"},
                                    std::pair{"distilbert classifier", "pooler is relu"}}) {
    const TemporaryFolder folder;
    WriteModel(ReadCase(name), folder.path());
    const ConvertedForms forms = FittedForms(folder.path());
    EXPECT_FALSE(forms.head.has_value());
    WriteForms(folder.path(), forms);
    ExpectIn(words, LoadDecoder(folder.path(), {.head = true}).error().message);
  }
}

TEST(DecoderFiles, RefusesUnsmoothActivationsByName) {
  const TemporaryFolder folder;
  WriteModel(ReadCase("opt"), folder.path());
  ExpectIn("relu", Refused(folder.path()).message);
}

TEST(DecoderFiles, RefusesFormsOfOtherWeights) {
  const TemporaryFolder folder;
  const auto vectors = ReadCase("llama");
  WriteFittedModel(vectors, folder.path());
  WriteModel(vectors, folder.path(), ElementType::kF16);  // trained on, say
  const Error stale = Refused(folder.path());
  EXPECT_EQ(stale.code, ErrorCode::kMismatch);
  ExpectIn("forms.json is of other weights", stale.message);

  ConvertedForms forms = LoadForms(folder.path()).value().value();
  forms.layers.pop_back();
  WriteForms(folder.path(), forms);
  ExpectIn("forms.layers has 1 entries, the model 2 layers", Refused(folder.path()).message);
}

TEST(DecoderFiles, FormsBelongToTheGgufFileThatTheyName) {
  const TemporaryFolder folder;
  ExpectIn("neither config.json nor a *.gguf", Refused(folder.path()).message);
  std::filesystem::copy(VectorPath("llama.gguf"), folder / "a.gguf");
  ConvertedForms forms = FittedForms(folder / "a.gguf");
  WriteForms(folder.path(), forms);
  std::filesystem::copy(VectorPath("mistral.gguf"), folder / "b.gguf");
  EXPECT_EQ(LoadDecoder(folder.path()).value()->name,
            std::filesystem::path(folder.path()).filename());
  EXPECT_EQ(LoadDecoder(folder / "a.gguf").value()->name, "a");
  ExpectIn("attention is softmax", Refused(folder / "b.gguf").message);

  forms.weights->file = "c.gguf";
  WriteForms(folder.path(), forms);
  EXPECT_EQ(Refused(folder.path()).code, ErrorCode::kNotFound);
  forms.weights->file = "b.gguf";  // the name of one, the digest of the other
  WriteForms(folder.path(), forms);
  EXPECT_EQ(Refused(folder / "b.gguf").code, ErrorCode::kMismatch);
  forms.weights.reset();
  WriteForms(folder.path(), forms);
  ExpectIn("2 files *.gguf, and forms.json names none", Refused(folder.path()).message);
}

TEST(DecoderFiles, LoadsBundles) {
  const std::string tiny = std::string(POLYVEIL_VECTORS) + "/../../models/tiny";
  const auto decoder = LoadDecoder(tiny).value();
  EXPECT_EQ(decoder->name, "tiny");
  EXPECT_EQ(decoder->prefix(), 0);
  EXPECT_TRUE(decoder->certificate.has_value());
  EXPECT_EQ(LoadDecoder(tiny, {.context = decoder->context}).value()->digest, decoder->digest);
  EXPECT_EQ(LoadDecoder(tiny, {.context = 5}).value()->context, 5);
  ExpectIn("the bundle's is", Refused(tiny, {.context = decoder->context + 1}).message);
}

}  // namespace
}  // namespace polyveil::model
