// Released models with fitted polynomials, from their files over HTTP: the server's answers against
// the blocks in float64. Small insecure rings, for tests only.
#include <gtest/gtest.h>

#include "model/decoder_reference.h"
#include "model/formats/checkpoint.h"
#include "model/import/constant_prefix.h"
#include "model/import/fitted_fixture.h"
#include "serve/server/http_server.h"
#include "serve/server/model_service.h"
#include "serve/server/served_model.h"
#include "support/predicted_error.h"
#include "support/residual_client.h"

namespace polyveil {
namespace {

using Vector = std::vector<double>;

// Residuals of a text behind the model's prefix.
std::vector<Vector> TextOf(const std::string& path, const std::string& adapter, int tokens) {
  const auto checkpoint = model::LoadCheckpoint(path, adapter).value();
  const std::vector<int>& prefix = checkpoint->forms->prefix;
  std::vector<std::int32_t> ids(prefix.begin(), prefix.end());
  const auto behind = model::RandomTokens(checkpoint->architecture.vocab_size, 1, tokens, 7);
  ids.insert(ids.end(), behind[0].begin(), behind[0].end());
  auto text = model::EmbedTokens(*checkpoint, ids).value();
  text.erase(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(prefix.size()));
  return text;
}

void ExpectServedAsInFloat64(const std::string& path, const std::string& adapter = {}) {
  constexpr int kTokens = 3;
  const model::DecoderOptions options{.context = 8, .adapter = adapter};
  const auto served = serve::LoadServedModel(path, "test10", "test", {}, {options, {}}).value();
  const auto decoder = model::LoadDecoder(path, options).value();
  serve::ModelService service(served, {});
  const auto server = serve::HttpServer::Start({}, service).value();
  testing::ResidualClient client(server->port());
  EXPECT_EQ(client.info().name, decoder->name);
  EXPECT_EQ(client.info().tensors_sha256, decoder->digest);
  EXPECT_EQ(client.info().d_model, decoder->width());
  EXPECT_GE(client.info().context, 8);

  const std::vector<Vector> text = TextOf(path, adapter, kTokens);
  model::DecoderReference reference(*decoder);
  std::vector<Vector> expected;
  for (const Vector& x : text) expected.push_back(reference.Step(x).value());
  const double tolerance = 2 * testing::PredictedError(served.model, text, expected);
  for (int i = 0; i < kTokens; ++i) {
    const auto at = static_cast<size_t>(i);
    EXPECT_LT(LargestDifference(client.Step(text[at]), expected[at]), tolerance) << "token " << i;
  }
  server->Stop();
}

TEST(ServedDecoder, ConvertedFoldersOverHttp) {
  for (const char* name : {"llama", "gpt_neox"}) {
    SCOPED_TRACE(name);
    const model::TemporaryFolder folder;
    model::WriteFittedModel(model::ReadCase(name), folder.path());
    ExpectServedAsInFloat64(folder.path());
  }
}

TEST(ServedDecoder, GgufFilesOverHttp) {
  const model::TemporaryFolder folder;
  std::filesystem::copy(model::VectorPath("llama.gguf"), folder / "m.gguf");
  model::WriteForms(folder.path(), model::FittedForms(folder / "m.gguf"));
  ExpectServedAsInFloat64(folder / "m.gguf");
}

// The base as released, the adapter elsewhere: an update of a hundredth of the weights' size, which
// the forms of the base have room for.
TEST(ServedDecoder, AdaptersBesideTheirBaseOverHttp) {
  const model::TemporaryFolder folder;
  const std::string base = folder / "m.gguf";
  std::filesystem::copy(model::VectorPath("llama.gguf"), base);
  std::filesystem::create_directory(folder / "adapter");
  model::WriteForms(folder / "adapter", model::FittedForms(base));
  const auto up = model::LoadCheckpoint(base).value()->weights.layers[1].up;
  model::TensorMap update;
  for (const auto& [name, shape, size] :
       {std::tuple{".lora_a", std::vector<std::int64_t>{1, up.in}, 0.1},
        std::tuple{".lora_b", std::vector<std::int64_t>{up.out, 1}, 0.05}}) {
    model::Tensor values = model::MakeTensor(name, shape);
    for (double& value : values.values) value *= size;
    update[up.weight.name + name] = values;
  }
  model::WriteBytes(folder / "adapter/adapter.safetensors",
                    model::FormatSafetensors(update, model::ElementType::kF16));
  ExpectServedAsInFloat64(base, folder / "adapter");
  EXPECT_FALSE(serve::LoadServedModel(folder / "adapter", "test10", "test").ok());
}

TEST(ServedDecoder, SoftmaxModelsAreNotServed) {
  const auto served = serve::LoadServedModel(model::VectorPath("llama.gguf"), "test10", "test");
  ASSERT_FALSE(served.ok());
  EXPECT_NE(served.error().message.find("polyveil fit"), std::string::npos);
}

}  // namespace
}  // namespace polyveil
