// forms.json: what is written is read again, and hostile files are refused by field.
#include "model/formats/forms.h"

#include <gtest/gtest.h>

#include <functional>
#include <span>

#include "model/formats/adapter.h"
#include "model/formats/architecture.h"
#include "model/formats/released_fixture.h"

namespace polyveil::model {
namespace {

using OrderedJson = nlohmann::ordered_json;

ConvertedForms MakeForms(FormStage stage) {
  ConvertedForms forms;
  forms.stage = stage;
  forms.power = 6;
  forms.prefix = {1, 7};
  for (int i = 0; i < 2; ++i) {
    LayerConfig layer;
    layer.kappa = {0.5, 2};
    layer.shift = {3, 4.25};
    layer.attention.powers = {4, 8};
    if (stage == FormStage::kPolynomial) {
      layer.norm1 = Chebyshev{0.5, 2, {1, 0.25}};
      layer.norm2 = Chebyshev{0.25, 3, {1, 0.5, 0.125}};
      layer.divisor_inverse = Chebyshev{0.1, 9, {1, 2}};
      layer.activation = Chebyshev{-6, 6, {0.5, 0.25}};
      layer.bounds.score = 11;
      layer.bounds.mid_exponents = {3, 0, 8};
      layer.norm2_seen = {0.5, 2.5};
    }
    forms.layers.push_back(layer);
  }
  if (stage == FormStage::kPolynomial) {
    forms.calibration = {1024, 1.5};
    forms.left_out = 7;
    forms.residual_bound = 80;
    forms.context = 12;
    forms.weights = {"a.gguf", std::string(64, 'a')};
    forms.certificate = Certificate{};
    forms.certificate->heldout_positions = 40;
  }
  return forms;
}

Architecture MakeArchitecture() {
  Architecture a;
  a.n_layers = 2;
  a.n_heads = 2;
  a.d_model = 3;
  a.vocab_size = 8;
  a.context = 16;
  return a;
}

TEST(Forms, WhatIsWrittenIsReadAgain) {
  for (const FormStage stage : {FormStage::kPower, FormStage::kPolynomial}) {
    const ConvertedForms forms = MakeForms(stage);
    const std::string text = FormatForms(forms);
    const ConvertedForms read = ParseForms(text).value();
    EXPECT_EQ(FormatForms(read), text);
    EXPECT_EQ(read.prefix, forms.prefix);
    EXPECT_EQ(read.left_out, forms.left_out);
    EXPECT_EQ(read.layers[1].shift, forms.layers[1].shift);
    EXPECT_TRUE(CheckForms(read, MakeArchitecture()).ok());
  }
}

// The adapters that the repository ships, which need weights that it does not.
TEST(Forms, ShippedAdaptersAreRead) {
  const std::string models = POLYVEIL_VECTORS "/../../models/";
  for (const auto& [name, layers] : {std::pair{"minilm-l6", 6}, {"smollm2-135m-instruct", 30}}) {
    const Adapter adapter = LoadAdapter(models + name).value();
    EXPECT_EQ(adapter.forms.stage, FormStage::kPolynomial) << name;
    EXPECT_EQ(adapter.forms.layers.size(), static_cast<size_t>(layers)) << name;
    EXPECT_EQ(adapter.forms.left_out, 0u) << name;  // bounds are of everything that was tried
  }
}

// What a fit may come to and no reader takes.
TEST(Forms, WhatNoReaderTakesIsNotWritten) {
  const auto refused = [](auto&& change) {
    ConvertedForms forms = MakeForms(FormStage::kPolynomial);
    change(forms);
    const auto text = FormatCheckedForms(forms, MakeArchitecture());
    return text.ok() ? std::string() : text.error().message;
  };
  const ConvertedForms forms = MakeForms(FormStage::kPolynomial);
  EXPECT_EQ(FormatCheckedForms(forms, MakeArchitecture()).value(), FormatForms(forms));
  EXPECT_EQ(refused([](auto& f) { f.layers[1].norm1.coeffs.resize(129); }),
            "forms.layers[1].norm1: degree 128 > 127");
  EXPECT_EQ(refused([](auto& f) { f.prefix.assign(65, 1); }), "forms.prefix: 65 tokens > 64");
  EXPECT_NE(refused([](auto& f) { f.layers.resize(257, f.layers[0]); }).find("at most 256"),
            std::string::npos);
  EXPECT_EQ(CheckFormsSize(257, 0).error().message, "forms.layers: 257 entries > 256");
}

TEST(Forms, AFolderWithoutTheFileIsAsReleased) {
  const TemporaryFolder folder;
  EXPECT_FALSE(LoadForms(folder.path()).value().has_value());
  WriteBytes(folder / "forms.json", FormatForms(MakeForms(FormStage::kPower)));
  EXPECT_EQ(LoadForms(folder.path()).value()->power, 6);
}

OrderedJson& Exponents(OrderedJson& forms, const std::string& place) {
  return forms["layers"][0]["bounds"][place + "_exponents"];
}

// What the message must name, and a change that no reader accepts.
using HostileChange = std::pair<const char*, std::function<void(OrderedJson&)>>;
const HostileChange kHostileChanges[] = {
    {"format", [](OrderedJson& j) { j["format"] = "polyveil-model/1"; }},
    {"stage", [](OrderedJson& j) { j["stage"] = "softmax"; }},
    {"power", [](OrderedJson& j) { j["power"] = 5; }},
    {"power", [](OrderedJson& j) { j["power"] = 14; }},
    {"attention_eps", [](OrderedJson& j) { j["attention_eps"] = -1e-3; }},
    {"attention_eps", [](OrderedJson& j) { j.erase("attention_eps"); }},
    {"prefix",
     [](OrderedJson& j) {
       j["prefix"] = {1, -2};
     }},
    {"prefix", [](OrderedJson& j) { j["prefix"] = {1.5}; }},
    {"prefix", [](OrderedJson& j) { j["prefix"] = std::vector<int>(65, 1); }},
    {"prefix",
     [](OrderedJson& j) {
       j["prefix"] = {1, 8};
     }},
    {"residual_bound", [](OrderedJson& j) { j["residual_bound"] = 0; }},
    {"context", [](OrderedJson& j) { j["context"] = -1; }},
    {"context", [](OrderedJson& j) { j["context"] = 15; }},
    {"weights.sha256", [](OrderedJson& j) { j["weights"].erase("sha256"); }},
    {"weights.sha256", [](OrderedJson& j) { j["weights"]["sha256"] = std::string(64, 'A'); }},
    {"weights.sha256", [](OrderedJson& j) { j["weights"]["sha256"] = "aa"; }},
    {"weights.file", [](OrderedJson& j) { j["weights"]["file"] = "../a.gguf"; }},
    {"weights.file", [](OrderedJson& j) { j["weights"]["file"] = "/a.gguf"; }},
    {"certificate.heldout_out_of_range",
     [](OrderedJson& j) { j["certificate"]["heldout_out_of_range"] = 41; }},
    {"certificate.least_margin", [](OrderedJson& j) { j["certificate"].erase("least_margin"); }},
};

const HostileChange kHostileLayers[] = {
    {"layers", [](OrderedJson& j) { j["layers"] = "two"; }},
    {"layers", [](OrderedJson& j) { j["layers"].erase(1); }},
    {"layers[1].kappa",
     [](OrderedJson& j) {
       j["layers"][1]["kappa"] = {1, 0};
     }},
    {"layers[0].shift", [](OrderedJson& j) { j["layers"][0]["shift"] = {1}; }},
    {"layers[0].shift",
     [](OrderedJson& j) {
       j["layers"][0]["shift"] = {1, "2"};
     }},
    {"norm1",
     [](OrderedJson& j) {
       j["layers"][0]["norm1"]["coeffs"] = {1, "x"};
     }},
    {"norm2", [](OrderedJson& j) { j["layers"][1]["norm2"]["a"] = 3.5; }},
    {"activation", [](OrderedJson& j) { j["layers"][1].erase("activation"); }},
    {"bounds", [](OrderedJson& j) { j["layers"][1].erase("bounds"); }},
    {"mid_exponents",
     [](OrderedJson& j) {
       Exponents(j, "mid") = std::vector<int>{3, 0};
     }},
    {"mid_exponents",
     [](OrderedJson& j) {
       Exponents(j, "mid") = std::vector<int>{3, 0, 9};
     }},
    {"out_exponents",
     [](OrderedJson& j) {
       Exponents(j, "out") = std::vector<double>{3, 0.5, 1};
     }},
    {"out_exponents", [](OrderedJson& j) { Exponents(j, "out") = "high"; }},
    {"attention", [](OrderedJson& j) { j["layers"][0]["attention"]["kind"] = "pointwise"; }},
    {"powers",
     [](OrderedJson& j) {
       j["layers"][0]["attention"]["powers"] = {4, 3};
     }},
};

void ExpectRefused(std::span<const HostileChange> changes, const std::string& text) {
  for (const auto& [field, change] : changes) {
    OrderedJson json = OrderedJson::parse(text);
    change(json);
    const auto forms = ParseForms(json.dump());
    const Status status =
        forms.ok() ? CheckForms(*forms, MakeArchitecture()) : Status(forms.error());
    ASSERT_FALSE(status.ok()) << field;
    EXPECT_NE(status.error().message.find(field), std::string::npos) << status.error().message;
  }
}

TEST(Forms, HostileFilesAreRefusedByField) {
  const std::string text = FormatForms(MakeForms(FormStage::kPolynomial));
  ExpectRefused(kHostileChanges, text);
  ExpectRefused(kHostileLayers, text);
  EXPECT_FALSE(ParseForms(text.substr(0, text.size() / 2)).ok());
  EXPECT_FALSE(ParseForms("{\"format\": 1, \"format\": 2}").ok());
}

TEST(Forms, AHeadIsReadAgainAndBelongsToAClassifier) {
  ConvertedForms forms = MakeForms(FormStage::kPolynomial);
  forms.head = HeadForms{Chebyshev{-6, 6, {0, 0.75, 0, 0.125}}, 4.5};
  const std::string text = FormatForms(forms);
  const auto again = ParseForms(text);
  ASSERT_TRUE(again.ok()) << again.error().message;
  EXPECT_EQ(FormatForms(*again), text);
  EXPECT_NE(CheckForms(*again, MakeArchitecture()).error().message.find("forms.head"),
            std::string::npos);
  Architecture classifier = MakeArchitecture();
  classifier.head = HeadKind::kClassifier;
  EXPECT_TRUE(CheckForms(*again, classifier).ok());
  const auto refused = [&](auto&& change) {
    OrderedJson json = OrderedJson::parse(text);
    change(json["head"]);
    const auto parsed = ParseForms(json.dump());
    return parsed.ok() ? std::string() : parsed.error().message;
  };
  EXPECT_NE(refused([](auto& head) { head["bound"] = 0; }).find("bound = 0"), std::string::npos);
  EXPECT_NE(refused([](auto& head) { head.erase("pooler"); }).find("pooler"), std::string::npos);
  EXPECT_NE(refused([](auto& head) { head["pooler"]["a"] = 1; }).find("no interval around 0"),
            std::string::npos);
  EXPECT_NE(refused([](auto& head) { head = 3; }).find("head"), std::string::npos);
}

TEST(Forms, AnEncoderHasNoPrefix) {
  Architecture a = MakeArchitecture();
  a.causal = false;
  EXPECT_FALSE(CheckForms(MakeForms(FormStage::kPower), a).ok());
}

}  // namespace
}  // namespace polyveil::model
