#include "polyveil/plan_card.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/system.h"
#include "model/client/chat_template.h"
#include "polyveil/model_files.h"
#include "polyveil/terminal.h"

namespace polyveil::tools {
namespace {

using nlohmann::json;

std::string Row(const std::string& what, const std::string& value) {
  return fmt::format("| {} | {} |\n", what, value);
}

std::string Table(const char* title, const std::string& rows) {
  return fmt::format("\n## {}\n\n| | |\n|---|---|\n{}", title, rows);
}

// What calibration saw of a kind of site, over the layers that have it.
struct Site {
  int count = 0, least_degree = 1 << 20, largest_degree = 0, levels = 0;
  double width = 0, ratio = 0;  // of the widest interval
  double margin = 1e300;        // the least

  void Add(const approx::Approximant& p, const model::ObservedInterval& seen) {
    ++count;
    least_degree = std::min(least_degree, p.degree());
    largest_degree = std::max(largest_degree, p.degree());
    levels = std::max(levels, p.LevelDepth());
    width = std::max(width, p.b - p.a);
    if (p.a > 0) ratio = std::max(ratio, p.b / p.a);
    if (seen.hi <= 0) return;
    margin = std::min(margin, p.b / seen.hi);
    if (p.a > 0 && seen.lo > 0) margin = std::min(margin, seen.lo / p.a);
  }
  std::string ToText(const char* name) const {
    if (count == 0) return {};
    const std::string degrees = least_degree == largest_degree
                                    ? std::to_string(largest_degree)
                                    : fmt::format("{} to {}", least_degree, largest_degree);
    return fmt::format("| {} | {} | {} | {} | {} | {} |\n", name, count, degrees, levels,
                       ratio > 0 ? fmt::format("ends at {:.1f} times its beginning", ratio)
                                 : fmt::format("{:.3g} wide", width),
                       margin < 1e300 ? fmt::format("{:.2f}", margin) : "not recorded");
  }
};

std::string Tried(const model::Decoder& decoder) {
  constexpr std::string_view kTitle = "certificate ";
  return model::CertificateToText(decoder.certificate).substr(kTitle.size());
}

std::string Polynomials(const model::Decoder& decoder) {
  Site norm1, divisor, norm2, activation;
  for (const model::Block& block : decoder.blocks) {
    const model::LayerConfig& forms = block.forms;
    norm1.Add(forms.norm1, forms.norm1_seen);
    divisor.Add(forms.divisor_inverse, forms.divisor_seen);
    norm2.Add(forms.norm2, forms.norm2_seen);
    if (forms.activation) activation.Add(*forms.activation, {});
  }
  return "\n## Polynomials\n\n"
         "| function | sites | degree | levels | the widest interval | least margin to what "
         "calibration saw |\n|---|---|---|---|---|---|\n" +
         norm1.ToText("norm before attention: 1/sqrt(v)") +
         divisor.ToText("attention's divisor: 1/(eps + y)") +
         norm2.ToText("norm before the feed-forward") + activation.ToText("activation") +
         fmt::format("\nTried on it: {}.\n", Tried(decoder));
}

std::string Files(const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code error;
  std::string rows;
  std::vector<fs::path> files;
  if (fs::is_directory(path, error)) {
    for (const auto& entry : fs::directory_iterator(path, error))
      if (entry.path().extension() != ".md" && fs::is_regular_file(entry.path(), error))
        files.push_back(entry.path());
  } else if (fs::is_regular_file(path, error)) {
    files.push_back(path);
  }
  std::sort(files.begin(), files.end());
  for (const fs::path& file : files)
    rows += Row(file.filename().string(), Bytes(fs::file_size(file, error)));
  return rows;
}

std::string About(const std::string& path, const PlannedModel& planned,
                  const serve::ModelInfo& info) {
  const model::BlockShape& shape = planned.decoder->blocks.front().shape;
  std::string rows =
      Row("blocks", fmt::format("{} of width {}, {} heads of {} ({} of keys and values), "
                                "feed-forward {}",
                                planned.decoder->blocks.size(), shape.d_model, shape.n_heads,
                                shape.d_head, shape.kv_width() / shape.d_head, shape.d_ff));
  if (planned.parameters > 0)
    rows += Row("parameters", fmt::format("{:.3g} million, the client's embedding and head among "
                                          "them",
                                          static_cast<double>(planned.parameters) / 1e6));
  rows += Row("attention", fmt::format("Power-Softmax, p = {}", shape.power));
  rows += Row("context", fmt::format("{} tokens, behind {} constant ones", info.context,
                                     planned.decoder->prefix()));
  rows += Row("digest of the server's half", fmt::format("`{}`", info.tensors_sha256));
  if (planned.nominal) rows += Row("polynomials", "none of its own yet: of usual degrees here");
  return Table("Model", rows + Files(path));
}

std::string Scheme(const serve::ModelInfo& info) {
  return Table("Scheme and security",
               Row("scheme", "CKKS with bootstrapping; the secret key never leaves the client") +
                   Row("parameters", info.security) +
                   Row("logQP", fmt::format("{:.1f} bits, the table's bound {} bits", info.log_qp,
                                            info.max_log_qp)) +
                   Row("assumed",
                       "hardness of Ring-LWE at that bound; the estimate for the sparse secret of "
                       "bootstraps; circular security of evaluation keys") +
                   Row("bootstraps fail",
                       "with a probability below 2^-130 a value "
                       "(docs/decisions/0007-bootstrap-shape.md)") +
                   Row("program", fmt::format("`{}`", info.program_digest)));
}

// Where a run measured something it stands beside the plan.
std::string Beside(const std::string& plan, const std::string& measured) {
  return measured.empty() ? plan + " (planned)" : fmt::format("{} ({} planned)", measured, plan);
}

struct Measured {
  std::string machine, token, first, server, client, check;
};

Result<Measured> ReadRun(const json& run, const serve::ModelInfo& info) {
  if (run.is_null()) return Measured{};
  try {
    const auto digest = run.at("model").at("program_digest").get<std::string>();
    if (digest != info.program_digest)
      return MakeError(ErrorCode::kMismatch, "run.model.program_digest = {}, the plan's is {}",
                       digest, info.program_digest);
    Measured out;
    std::vector<double> seconds;
    int checked = 0, within = 0;
    double allowed = 0;
    for (const json& token : run.at("tokens")) {
      seconds.push_back(token.at("seconds"));
      if (!token.contains("within_noise")) continue;
      ++checked;
      within += token.at("within_noise").get<bool>() && token.at("argmax_agrees").get<bool>();
      allowed = std::max(allowed, token.at("logits_allowed").get<double>());
    }
    if (seconds.empty()) return MakeError(ErrorCode::kCorrupt, "run.tokens has 0 entries");
    const auto generated = static_cast<size_t>(run.at("generated").get<int>());
    const size_t fed = seconds.size() + 1 - std::min(generated, seconds.size());
    double first = run.at("keys_seconds").get<double>() + run.at("public_seconds").get<double>();
    for (size_t i = 0; i < fed; ++i) first += seconds[i];
    std::ranges::sort(seconds);
    out.machine = fmt::format("{}, {} threads ({})", run.at("cpu").get<std::string>(),
                              run.at("threads").get<int>(), run.at("backend").get<std::string>());
    out.token = FormatSeconds(seconds[seconds.size() / 2]) +
                fmt::format(", the median of {}", seconds.size());
    out.first = fmt::format("{} with its keys, {} private tokens", FormatSeconds(first), fed);
    out.server = Bytes(run.at("server_peak_rss_bytes"));
    out.client = Bytes(run.at("client_peak_rss_bytes"));
    if (checked > 0)
      out.check = fmt::format("{} of {} tokens within what noise allows, {:.2g} of a logit at most",
                              within, checked, allowed);
    return out;
  } catch (const json::exception& fault) {
    return MakeError(ErrorCode::kCorrupt, "run: {}", fault.what());
  }
}

std::string Cost(const serve::ModelInfo& info, const Measured& run) {
  const compile::Estimate& e = info.estimate;
  std::string rows =
      Row("planned on", fmt::format("{}, {} threads ({})", CpuName(), info.threads, info.backend));
  if (!run.machine.empty()) rows += Row("measured on", run.machine);
  rows += Row("a token", Beside(FormatSeconds(info.seconds_per_token()), run.token));
  rows += Row("first token",
              Beside(FormatSeconds(info.seconds_per_token()) + " a private token", run.first));
  for (const serve::PromptInfo& prompt : info.prompts)
    rows += Row(fmt::format("up to {} tokens at once", prompt.tokens),
                FormatSeconds(prompt.seconds) + " (planned)");
  rows += Row("a token's program",
              fmt::format("{} levels, {} bootstraps, {} rotations, {} products", e.depth_per_token,
                          e.bootstraps_per_token, e.rotations_per_token, e.products_per_token));
  rows +=
      Row("evaluation keys", fmt::format("{} up once, {} in the server's memory",
                                         Bytes(info.key_stream_bytes), Bytes(info.key_set_bytes)));
  rows += Row("a token's bytes",
              fmt::format("{} up, {} down", Bytes(e.token_bytes_up), Bytes(e.token_bytes_down)));
  rows += Row("memory of the server", Beside(Bytes(info.server_bytes()), run.server));
  if (!run.client.empty()) rows += Row("memory of the client", run.client);
  if (!run.check.empty()) rows += Row("checked against float64", run.check);
  return Table("Cost", rows);
}

// The words of a chat that go to the server in the clear unless the user says otherwise.
std::string PublicWords(const std::string& path) {
  std::size_t tokens = 0;
  if (const auto half = LoadClientHalf(path); half.ok()) {
    if (const auto chat = model::ChatTemplate::For(**half); chat.ok()) {
      const std::size_t head = chat->Head(chat->default_system()).size();
      tokens = head - std::min(head, static_cast<std::size_t>((*half)->prefix()));
    }
  }
  if (tokens == 0) return "nothing but what the user declares (`--public`)";
  return fmt::format(
      "of `chat` and the proxy the template's constant head (tokens 1 to {}) unless "
      "`--all-private`; "
      "what the user declares (`--public`)",
      tokens);
}

std::string Knowledge(const std::string& path) {
  return Table("Who learns what",
               Row("in the clear", PublicWords(path)) +
                   Row("the server learns",
                       "the number of private tokens, when they come, and that "
                       "a text ended where the client stops") +
                   Row("the server does not learn", "a private token, an embedding, a logit") +
                   Row("the client learns", "the model's tokenizer, embedding and head; no block") +
                   Row("not proved",
                       "that the server computed this model: a malicious one can return a wrong "
                       "result (README, threat model)"));
}

}  // namespace

Result<std::string> ModelCard(const std::string& path, const PlannedModel& planned,
                              const serve::ServedModel& served, const nlohmann::json& run) {
  PV_ASSIGN_OR_RETURN(const Measured measured, ReadRun(run, served.info));
  return fmt::format(
             "# Card of an encrypted model: {}\n\nWritten by `polyveil plan --card`; "
             "version {}.\n",
             served.info.name, served.info.version) +
         About(path, planned, served.info) + Polynomials(*planned.decoder) + Scheme(served.info) +
         Cost(served.info, measured) + Knowledge(path);
}

}  // namespace polyveil::tools
