// Configuration, safetensors and bundle.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <random>

#include "model/bundle.h"
#include "model/bundle_fixture.h"
#include "model/ngram.h"

namespace polyveil::model {
namespace {

std::vector<std::uint8_t> File(const std::string& header, std::size_t data_bytes) {
  const std::uint64_t length = header.size();
  std::vector<std::uint8_t> out(8 + length + data_bytes);
  std::memcpy(out.data(), &length, 8);
  std::copy(header.begin(), header.end(), out.begin() + 8);
  return out;
}

std::string Message(const std::vector<std::uint8_t>& bytes) {
  const auto result = ParseSafetensors(bytes);
  return result.ok() ? "" : result.error().message;
}

TEST(Safetensors, RoundTripsInEveryType) {
  const TensorMap tensors = {{"x", {{2, 3}, {1, -2, 0.5, 0, 65504, -0.25}}}, {"y", {{1}, {3}}}};
  for (const TensorType type : {TensorType::kF16, TensorType::kF32, TensorType::kF64}) {
    const auto again = ParseSafetensors(FormatSafetensors(tensors, type, {{"note", "n"}})).value();
    EXPECT_EQ(again.at("x").values, tensors.at("x").values);
    EXPECT_EQ(again.at("x").shape, tensors.at("x").shape);
    EXPECT_EQ(again.at("y").values, tensors.at("y").values);
  }
}

TEST(Safetensors, HalfRoundsToNearestEven) {
  EXPECT_EQ(RoundToHalf(1 + 0x1p-11), 1);
  EXPECT_EQ(RoundToHalf(1 + 3 * 0x1p-11), 1 + 0x1p-9);
  EXPECT_EQ(RoundToHalf(0x1p-24), 0x1p-24);
  EXPECT_EQ(RoundToHalf(0x1p-26), 0);
  EXPECT_EQ(RoundToHalf(-0.1), -0.0999755859375);
  EXPECT_TRUE(std::isinf(RoundToHalf(70000)));
}

TEST(Safetensors, RefusesEveryMalformedFile) {
  const std::string ok = R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
  EXPECT_EQ(Message(File(ok, 8)), "");
  const std::pair<std::string, std::size_t> bad[] = {
      {ok, 7},
      {ok, 9},
      {R"({"a":{"dtype":"I8","shape":[2],"data_offsets":[0,2]}})", 2},
      {R"({"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})", 8},
      {R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", 8},
      {R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]}})", 8},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})", 8},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,18446744073709551615]}})", 8},
      {R"({"a":{"dtype":"F32","shape":[2]}})", 8},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
       R"("b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
       8},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
       R"("a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
       8},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", 8},
      {R"({"a":[1]})", 0},
      {"[]", 0},
      {"{", 0}};
  for (const auto& [header, bytes] : bad) EXPECT_NE(Message(File(header, bytes)), "") << header;
  EXPECT_NE(Message({1, 2, 3}), "");
  auto long_header = File(ok, 8);
  long_header[6] = 1;
  EXPECT_NE(Message(long_header), "");
}

TEST(Safetensors, ErrorsNameTheTensorAndBothValues) {
  const auto message =
      Message(File(R"({"deep.w":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", 8));
  for (const char* part : {"deep.w", "8", "12"}) EXPECT_NE(message.find(part), std::string::npos);
}

TEST(Safetensors, RefusesValuesThatAreNotFinite) {
  auto file = File(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 4);
  const float nan = NAN;
  std::memcpy(file.data() + file.size() - 4, &nan, 4);
  EXPECT_NE(Message(file).find("\"a\""), std::string::npos);
}

TEST(Safetensors, SurvivesTruncationAndFlippedBits) {
  const auto good = FormatSafetensors(
      {{"x", {{4}, {1, 2, 3, 4}}}, {"y", {{2, 2}, {1, -2, 127, 0}}}, {"y.scale", {{2}, {0.5, 2}}}},
      TensorType::kF32, {}, {{"y", TensorType::kI8}});
  ASSERT_TRUE(ParseSafetensors(good).ok());
  for (std::size_t n = 0; n < good.size(); ++n)
    EXPECT_FALSE(ParseSafetensors(std::span(good).first(n)).ok()) << n;
  std::mt19937_64 random(3);
  for (int i = 0; i < 5000; ++i) {
    auto bad = good;
    bad[random() % bad.size()] ^= static_cast<std::uint8_t>(1u << random() % 8);
    (void)ParseSafetensors(bad);  // an error or a tensor, never a crash
  }
}

std::string WithCertificate(const std::string& json) {
  auto model = nlohmann::json::parse(FormatModelConfig(SmallBundle().config));
  model["certificate"] = nlohmann::json::parse(json, nullptr, false);
  return model.dump();
}

TEST(Certificate, RoundTripsAndReadsAsOneLine) {
  ModelConfig config = SmallBundle().config;
  EXPECT_FALSE(ParseModelConfig(FormatModelConfig(config))->certificate.has_value());
  config.certificate = Certificate{1'000'000, 20'000'000, 12, 1.25, 3, 0.8, 5'000, 0, 7, 0.0125};
  const std::string text = FormatModelConfig(config);
  const ModelConfig again = ParseModelConfig(text).value();
  EXPECT_EQ(FormatModelConfig(again), text);
  ASSERT_TRUE(again.certificate.has_value());
  EXPECT_EQ(again.certificate->searched_positions, 20'000'000u);
  EXPECT_EQ(again.certificate->worst_outside, 1.25);
  EXPECT_EQ(again.certificate->left_out_positions, 7u);
  const std::string line = CertificateToText(*again.certificate);
  for (const char* part : {"1000000 inputs", "12 out of range", "1.25", "3 changed", "0.8",
                           "0 of 5000", "7 calibration", "0.013"})
    EXPECT_NE(line.find(part), std::string::npos) << part << ": " << line;
  EXPECT_EQ(line.find('\n'), std::string::npos);
  Certificate overflow = *again.certificate;
  overflow.worst_outside = kOverflowRatio;
  EXPECT_NE(CertificateToText(overflow).find("worst an overflow"), std::string::npos);
}

TEST(Certificate, RefusesEveryFieldThatIsMissingOrNoNumberOfItsKind) {
  const auto good = CertificateToJson({10, 100, 1, 1.5, 1, 0.5, 50, 2, 0, 0.01});
  ASSERT_TRUE(ParseModelConfig(WithCertificate(good.dump())).ok());
  for (const auto& [key, value] : good.items()) {
    std::vector<std::string> bad;
    for (const char* wrong : {"null", "\"1\"", "-1", "[1]", "true", "1e999"}) {
      const std::string field = "\"" + key + "\":" + value.dump();
      std::string text = good.dump();
      bad.push_back(text.replace(text.find(field), field.size(), "\"" + key + "\":" + wrong));
    }
    if (key != "left_out_positions") {
      auto without = good;
      without.erase(key);
      bad.push_back(without.dump());
    }
    for (const std::string& text : bad) {
      const auto parsed = ParseModelConfig(WithCertificate(text));
      ASSERT_FALSE(parsed.ok()) << text;
      if (text.find("1e999") != std::string::npos) continue;  // no JSON
      EXPECT_NE(parsed.error().message.find("certificate." + key), std::string::npos) << text;
    }
  }
  for (const char* text : {"3", "null", "{}", "[]"})
    EXPECT_FALSE(ParseModelConfig(WithCertificate(text)).ok()) << text;
}

TEST(Certificate, RefusesCountsBeyondTheirWholeAndWhatIsNotFinite) {
  const Certificate good{10, 100, 1, 1.5, 1, 0.5, 50, 2, 0, 0.01};
  const auto refused = [&](auto member, auto value, const char* field) {
    Certificate bad = good;
    bad.*member = value;
    const Status status = ValidateCertificate(bad, "here");
    ASSERT_FALSE(status.ok()) << field;
    EXPECT_NE(status.error().message.find(std::string("here.") + field), std::string::npos);
  };
  EXPECT_TRUE(ValidateCertificate(good, "here").ok());
  refused(&Certificate::out_of_range, 101u, "out_of_range");
  refused(&Certificate::changed_tokens, 101u, "changed_tokens");
  refused(&Certificate::heldout_out_of_range, 51u, "heldout_out_of_range");
  for (const double value : {0.0, -1.0, double{NAN}, double{INFINITY}})
    refused(&Certificate::least_margin, value, "least_margin");
  for (const double value : {0.99, double{NAN}, double{INFINITY}})
    refused(&Certificate::worst_outside, value, "worst_outside");
  for (const double value : {-1e-9, double{NAN}, double{INFINITY}})
    refused(&Certificate::predicted_logit_error, value, "predicted_logit_error");
}

TEST(Config, RefusesBoundsAndRangesThatAreNotFinite) {
  for (const double value : {double{NAN}, double{INFINITY}, -1.0}) {
    ModelConfig config = SmallBundle().config;
    config.layers[1].bounds.weight = value;
    const Status status = ValidateModelConfig(config);
    ASSERT_FALSE(status.ok()) << value;
    EXPECT_NE(status.error().message.find("layers[1].bounds.weight"), std::string::npos);
  }
  ModelConfig config = SmallBundle().config;
  config.layers[0].divisor_seen = {1, INFINITY};
  EXPECT_NE(ValidateModelConfig(config).error().message.find("seen.divisor"), std::string::npos);
}

TensorMap Tensors(const BodyBundle& bundle) {
  const auto tensor = [](const Matrix& m) { return Tensor{{m.rows, m.cols}, m.values}; };
  TensorMap out;
  for (int i = 0; i < kLayers; ++i) {
    const BundleLayer& w = bundle.weights.layers[i];
    const std::string at = fmt::format("layers.{}.", i);
    for (const auto& [name, m] : {std::pair{"wq", &w.wq},
                                  {"wk", &w.wk},
                                  {"wv", &w.wv},
                                  {"wo", &w.wo},
                                  {"w1", &w.w1},
                                  {"w2", &w.w2},
                                  {"wdown", &w.wdown}})
      out[at + name] = tensor(*m);
  }
  out["embed"] = {{300, kWidth}, std::vector<double>(300 * kWidth, 0.5)};
  out["pos"] = {{kContext, kWidth}, std::vector<double>(kContext * kWidth, 0.25)};
  out["final_gamma"] = {{kWidth}, std::vector<double>(kWidth, 1)};
  return out;
}

TEST(Bundle, RoundTripsBothParts) {
  BodyBundle bundle = SmallBundle();
  const auto bytes = FormatSafetensors(Tensors(bundle), TensorType::kF64);
  bundle.config.tensors_sha256 = Sha256Hex(bytes);
  const std::string json = FormatModelConfig(bundle.config);
  const auto body = ParseBodyBundle(json, bytes).value();
  EXPECT_EQ(body.weights.layers[1].wdown.values, bundle.weights.layers[1].wdown.values);
  EXPECT_EQ(body.config.layers[0].norm1.coeffs, bundle.config.layers[0].norm1.coeffs);
  EXPECT_EQ(FormatModelConfig(body.config), json);
  EXPECT_EQ(ParseClientBundle(json, bytes).value().weights.embed.rows, 300);
}

TEST(Bundle, RefusesWrongDigestsShapesAndMissingTensors) {
  BodyBundle bundle = SmallBundle();
  auto tensors = Tensors(bundle);
  bundle.config.tensors_sha256 = std::string(64, '0');
  const auto good = FormatSafetensors(tensors, TensorType::kF32);
  EXPECT_FALSE(ParseBodyBundle(FormatModelConfig(bundle.config), good).ok());
  bundle.config.tensors_sha256 = "";
  EXPECT_TRUE(ParseBodyBundle(FormatModelConfig(bundle.config), good).ok());
  tensors["layers.1.wo"].shape = {2, 8};
  const auto reshaped = ParseBodyBundle(FormatModelConfig(bundle.config),
                                        FormatSafetensors(tensors, TensorType::kF32));
  ASSERT_FALSE(reshaped.ok());
  EXPECT_NE(reshaped.error().message.find("layers.1.wo"), std::string::npos);
  tensors.erase("layers.1.wo");
  EXPECT_FALSE(ParseBodyBundle(FormatModelConfig(bundle.config),
                               FormatSafetensors(tensors, TensorType::kF32))
                   .ok());
}

// Tables as floats, or as bytes with a scale a row; a bundle that names them must hold them.
TEST(Bundle, ReadsTablesOfNgrams) {
  BodyBundle bundle = SmallBundle();
  bundle.config.ngram_rows = {3, 2};
  const std::string json = FormatModelConfig(bundle.config);
  EXPECT_EQ(ParseModelConfig(json).value().ngram_rows, (std::vector<int>{3, 2}));
  auto tensors = Tensors(bundle);
  tensors["ngram2"] = {{3, kWidth}, {1, -2, 127, 0, -127, 4, 5, 6, 7, 8, 9, 10}};
  tensors["ngram2.scale"] = {{3}, {0.5, 2, 0}};
  tensors["ngram3"] = {{2, kWidth}, std::vector<double>(2 * kWidth, 0.125)};
  const auto bytes =
      FormatSafetensors(tensors, TensorType::kF32, {}, {{"ngram2", TensorType::kI8}});
  const auto client = ParseClientBundle(json, bytes).value();
  ASSERT_EQ(client.weights.ngrams.size(), 2u);
  EXPECT_EQ(client.weights.ngrams[0].values,
            (std::vector<double>{0.5, -1, 63.5, 0, -254, 8, 10, 12, 0, 0, 0, 0}));
  EXPECT_EQ(client.weights.ngrams[1].values, tensors["ngram3"].values);
  EXPECT_TRUE(ParseBodyBundle(json, bytes).ok());
  const auto refused = [&](const TensorMap& bad, const char* named) {
    const auto result = ParseClientBundle(
        json, FormatSafetensors(bad, TensorType::kF32, {}, {{"ngram2", TensorType::kI8}}));
    ASSERT_FALSE(result.ok());
    EXPECT_NE(result.error().message.find(named), std::string::npos) << result.error().message;
  };
  auto bad = tensors;
  bad["ngram2.scale"] = {{2}, {0.5, 2}};
  refused(bad, "ngram2.scale");
  bad.erase("ngram2.scale");
  refused(bad, "ngram2.scale");
  bad = tensors;
  bad["ngram3"].shape = {kWidth, 2};
  refused(bad, "ngram3");
  bad.erase("ngram3");
  refused(bad, "ngram3");
}

TEST(Ngram, RowsAreAsDocumented) {
  const std::int32_t tokens[] = {256, 84, 0, 4095};
  EXPECT_EQ(NgramRow(std::span(tokens).first(2), 1 << 20), 986196);
  EXPECT_EQ(NgramRow(std::span(tokens).first(3), 1 << 20), 743900);
  EXPECT_EQ(NgramRow(std::span(tokens), 14336), 13949);
  EXPECT_EQ(NgramRow(std::span(tokens), 1), 0);
  std::vector<int> hits(64);
  for (std::int32_t i = 0; i < 128; ++i)
    for (std::int32_t k = 0; k < 128; ++k)
      ++hits[static_cast<std::size_t>(NgramRow(std::array{i, k}, 64))];
  // 256 a row on average; a row's count would deviate by 16 if it were drawn.
  for (const int count : hits) EXPECT_NEAR(count, 256, 6 * 16);
}

TEST(Config, NamesTheFieldThatIsWrong) {
  const std::string good = FormatModelConfig(SmallBundle().config);
  EXPECT_TRUE(ParseModelConfig(good).ok());
  const std::tuple<const char*, const char*, const char*> edits[] = {
      {"\"d_head\": 2", "\"d_head\": 3", "d_head"},
      {"\"n_layers\": 2", "\"n_layers\": 3", "n_layers"},
      {"\"power\": 4", "\"power\": 3", "power"},
      {"\"context\": 6", "\"context\": -6", "context"},
      {"\"vocab_size\": 300", "\"vocab_size\": \"many\"", "vocab_size"},
      {"\"vocab_size\"", "\"ngram_rows\": [0], \"vocab_size\"", "ngram_rows"},
      {"\"vocab_size\"", "\"ngram_rows\": [1.5], \"vocab_size\"", "ngram_rows"},
      {"\"vocab_size\"", "\"ngram_rows\": [2000000], \"vocab_size\"", "ngram_rows"},
      {"\"vocab_size\"", "\"ngram_rows\": [1, 1, 1, 1], \"vocab_size\"", "ngram_rows"},
      {"\"vocab_size\"", "\"ngram_rows\": 7, \"vocab_size\"", "ngram_rows"},
      {"\"ffn\": \"bilinear\"", "\"ffn\": \"relu\"", "ffn"},
      {"\"residual_bound\": 10.0", "\"residual_bound\": 0", "residual_bound"},
      {"\"shift\"", "\"shaft\"", "shift"},
      {"\"format\": \"polyveil-model/1\"", "\"format\": \"polyveil-model/2\"", "format"}};
  for (const auto& [from, to, field] : edits) {
    std::string bad = good;
    const auto at = bad.find(from);
    ASSERT_NE(at, std::string::npos) << from;
    bad.replace(at, std::strlen(from), to);
    const auto result = ParseModelConfig(bad);
    ASSERT_FALSE(result.ok()) << to;
    EXPECT_NE(result.error().message.find(field), std::string::npos) << result.error().message;
  }
}

}  // namespace
}  // namespace polyveil::model
