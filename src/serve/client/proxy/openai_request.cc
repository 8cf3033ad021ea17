#include "serve/client/proxy/openai_request.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/csprng.h"
#include "base/printable.h"
#include "serve/client/proxy/api_fields.h"

namespace polyveil::serve {
namespace {

using api::Flag;
using api::Given;
using api::Refuse;
using nlohmann::json;

constexpr int kMaxStops = 16;
constexpr size_t kMaxMessages = 4096;
constexpr std::int64_t kMaxNewTokens = 1 << 20;

// Fields that mean nothing when they have one of these values, and cannot be honoured otherwise.
struct Neutral {
  const char* field;
  std::vector<json> values;
  const char* why;
};

const std::vector<Neutral>& Neutrals() {
  static const json none = json::array(), empty = json::object();
  static const std::vector<Neutral> all = {
      {"n", {1}, "a text has one continuation, each would be paid for token by token"},
      {"best_of", {1}, "a text has one continuation"},
      {"frequency_penalty", {0, 0.0}, "use repetition_penalty"},
      {"presence_penalty", {0, 0.0}, "use repetition_penalty"},
      {"logprobs", {false, 0}, "logits carry noise of the secret key and are not given away"},
      {"top_logprobs", {0}, "logits carry noise of the secret key and are not given away"},
      {"logit_bias", {empty}, "it is not supported"},
      {"tools", {none}, "the model calls no tools"},
      {"tool_choice", {"none", "auto"}, "the model calls no tools"},
      {"functions", {none}, "the model calls no tools"},
      {"function_call", {"none", "auto"}, "the model calls no tools"},
      {"parallel_tool_calls", {true, false}, "the model calls no tools"},
      {"response_format", {json{{"type", "text"}}}, "answers are text"},
      {"modalities", {json{"text"}}, "answers are text"},
      {"suffix", {""}, "the model continues texts, it fills no gaps"},
      {"store", {false}, "nothing is kept"},
      {"metadata", {empty}, "nothing is kept"},
      {"service_tier", {"auto", "default"}, "there is one"},
  };
  return all;
}

// Read elsewhere. `user` asks for nothing: it goes nowhere.
constexpr const char* kRead[] = {"model",      "messages",    "prompt",
                                 "stream",     "temperature", "top_p",
                                 "seed",       "stop",        "stream_options",
                                 "max_tokens", "top_k",       "max_completion_tokens",
                                 "echo",       "user",        "repetition_penalty"};

Status CheckFields(const json& body, bool chat) {
  for (const auto& [key, value] : body.items()) {
    if (value.is_null()) continue;
    const std::string field = Printable(key, 64);
    const bool other = chat
                           ? key == "prompt" || key == "echo" || key == "best_of" || key == "suffix"
                           : key == "messages" || key == "max_completion_tokens";
    const auto neutral =
        std::ranges::find_if(Neutrals(), [&key = key](const auto& n) { return key == n.field; });
    if (!other && std::ranges::find(kRead, key) != std::end(kRead)) continue;
    if (other || neutral == Neutrals().end()) return Refuse(field, "this field is not supported");
    if (std::ranges::find(neutral->values, value) == neutral->values.end())
      return Refuse(field, "this value cannot be honoured: {}", neutral->why);
  }
  return {};
}

Status Number(const json& body, const char* field, double lo, double hi, double& out) {
  const json* value = Given(body, field);
  if (!value) return {};
  const double number = value->is_number() ? value->get<double>() : NAN;
  if (!(number >= lo && number <= hi))
    return Refuse(field, "{}, not a number in [{}, {}]",
                  value->is_number() ? value->dump() : value->type_name(), lo, hi);
  out = number;
  return {};
}

Status Whole(const json& body, const char* field, std::int64_t lo, std::int64_t hi,
             std::optional<std::int64_t>& out) {
  const json* value = Given(body, field);
  if (!value) return {};
  if (!value->is_number_integer() || *value < lo || *value > hi)
    return Refuse(field, "{}, not an integer in [{}, {}]",
                  value->is_number() ? value->dump() : value->type_name(), lo, hi);
  out = value->get<std::int64_t>();
  return {};
}

Status ReadSampling(const json& body, model::SamplingOptions& sampling) {
  sampling.temperature = 1;  // as the API has it
  PV_RETURN_IF_ERROR(Number(body, "temperature", 0, 2, sampling.temperature));
  PV_RETURN_IF_ERROR(Number(body, "top_p", 0, 1, sampling.top_p));
  sampling.top_p = std::max(sampling.top_p, 1e-9);  // 0: the likeliest token
  PV_RETURN_IF_ERROR(Number(body, "repetition_penalty", 1e-3, 100, sampling.repetition_penalty));
  std::optional<std::int64_t> top_k, seed;
  PV_RETURN_IF_ERROR(Whole(body, "top_k", 0, 1 << 20, top_k));
  PV_RETURN_IF_ERROR(Whole(body, "seed", INT64_MIN, INT64_MAX, seed));
  sampling.top_k = static_cast<int>(top_k.value_or(0));
  sampling.seed = seed ? static_cast<u64>(*seed) : Prng::FromSystem("polyveil/sampling/1").Next64();
  return {};
}

Status ReadStops(const json& body, std::vector<std::string>& stops) {
  const json* value = Given(body, "stop");
  if (!value) return {};
  const json list = value->is_array() ? *value : json::array({*value});
  if (list.size() > kMaxStops) return Refuse("stop", "{} texts > {}", list.size(), kMaxStops);
  for (const json& stop : list) {
    if (!stop.is_string() || stop.get_ref<const std::string&>().empty())
      return Refuse("stop", "entry {} is no text", stops.size());
    stops.push_back(stop.get<std::string>());
  }
  return {};
}

Status ReadLength(const json& body, TextRequest& request) {
  std::optional<std::int64_t> tokens, newer;
  PV_RETURN_IF_ERROR(Whole(body, "max_tokens", 1, kMaxNewTokens, tokens));
  PV_RETURN_IF_ERROR(Whole(body, "max_completion_tokens", 1, kMaxNewTokens, newer));
  if (tokens && newer && *tokens != *newer)
    return Refuse("max_tokens", "{}, but max_completion_tokens is {}", *tokens, *newer);
  if (tokens || newer) request.new_tokens = static_cast<int>(newer ? *newer : *tokens);
  return {};
}

Status ReadStream(const json& body, TextRequest& request) {
  PV_RETURN_IF_ERROR(Flag(body, "stream", request.stream));
  const json* options = Given(body, "stream_options");
  if (!options) return {};
  if (!options->is_object()) return Refuse("stream_options", "no object");
  if (!request.stream) return Refuse("stream_options", "stream is not true");
  bool obfuscation = false;
  for (const auto& [key, value] : options->items())
    if (key != "include_usage" && key != "include_obfuscation")
      return Refuse(Printable("stream_options." + key, 96), "this field is not supported");
  PV_RETURN_IF_ERROR(Flag(*options, "include_usage", request.include_usage));
  PV_RETURN_IF_ERROR(Flag(*options, "include_obfuscation", obfuscation));
  if (obfuscation)
    return Refuse("stream_options.include_obfuscation",
                  "the connection does not leave this machine");
  return {};
}

// A message's text, or the texts of its parts one behind the other.
Result<std::string> ContentOf(const json& message, const std::string& where) {
  const json* content = Given(message, "content");
  if (!content) return Refuse(where + ".content", "it is missing");
  if (content->is_string()) return content->get<std::string>();
  if (!content->is_array()) return Refuse(where + ".content", "neither a text nor parts");
  std::string text;
  for (size_t i = 0; i < content->size(); ++i) {
    const json& part = (*content)[i];
    const std::string place = fmt::format("{}.content[{}]", where, i);
    const auto type = part.is_object() ? part.find("type") : part.end();
    if (!part.is_object() || type == part.end() || *type != "text")
      return Refuse(place + ".type", "the model reads text only");
    const auto words = part.find("text");
    if (words == part.end() || !words->is_string()) return Refuse(place + ".text", "no text");
    text += words->get<std::string>();
  }
  return text;
}

Result<ChatMessage> MessageFrom(const json& message, const std::string& where) {
  if (!message.is_object()) return Refuse(where, "no object");
  for (const auto& [key, value] : message.items())
    if (key != "role" && key != "content" && !value.is_null() &&
        !(value.is_array() && value.empty()))
      return Refuse(Printable(where + "." + key, 96), "this field is not supported");
  const json* role = Given(message, "role");
  if (!role || !role->is_string()) return Refuse(where + ".role", "no text");
  ChatMessage result{role->get<std::string>(), ""};
  if (result.role == "developer") result.role = "system";
  if (result.role != "system" && result.role != "user" && result.role != "assistant")
    return Refuse(where + ".role", "'{}' is none of system, developer, user, assistant",
                  Printable(result.role, 64));
  PV_ASSIGN_OR_RETURN(result.text, ContentOf(message, where));
  return result;
}

// A system text or none, then user and assistant in turns, the user's last: what a template has.
Status CheckTurns(const std::vector<ChatMessage>& messages) {
  const size_t first = !messages.empty() && messages[0].role == "system";
  for (size_t i = first; i < messages.size(); ++i) {
    const char* due = (i - first) % 2 == 0 ? "user" : "assistant";
    if (messages[i].role != due)
      return Refuse(fmt::format("messages[{}].role", i),
                    "'{}', expected '{}': a system text first, "
                    "then user and assistant in turns",
                    messages[i].role, due);
  }
  if ((messages.size() - first) % 2 == 0) return Refuse("messages", "the last is not the user's");
  return {};
}

Status ReadMessages(const json& body, std::vector<ChatMessage>& messages) {
  const json* list = Given(body, "messages");
  if (!list || !list->is_array()) return Refuse("messages", "no array");
  if (list->size() > kMaxMessages)
    return Refuse("messages", "{} messages > {}", list->size(), kMaxMessages);
  for (size_t i = 0; i < list->size(); ++i) {
    PV_ASSIGN_OR_RETURN(ChatMessage message,
                        MessageFrom((*list)[i], fmt::format("messages[{}]", i)));
    messages.push_back(std::move(message));
  }
  return CheckTurns(messages);
}

// A text, tokens, or an array of one of them.
Status ReadPrompt(const json& body, TextRequest& request) {
  const json* prompt = Given(body, "prompt");
  if (!prompt) return Refuse("prompt", "it is missing");
  if (prompt->is_array() && !prompt->empty() && !prompt->front().is_number()) {
    if (prompt->size() > 1) return Refuse("prompt", "{} texts, one at a time", prompt->size());
    prompt = &prompt->front();
  }
  if (prompt->is_string()) {
    request.prompt = prompt->get<std::string>();
    return {};
  }
  if (!prompt->is_array()) return Refuse("prompt", "neither a text nor tokens");
  for (const json& token : *prompt) {
    if (!token.is_number_integer() || token < 0 || token > INT32_MAX)
      return Refuse("prompt", "entry {} is no token", request.prompt_ids.size());
    request.prompt_ids.push_back(token.get<model::TokenId>());
  }
  return {};
}

}  // namespace

Result<TextRequest> ParseTextRequest(std::string_view text, bool chat) {
  PV_ASSIGN_OR_RETURN(const json body, api::ParseBody(text));
  PV_RETURN_IF_ERROR(CheckFields(body, chat));
  TextRequest request;
  request.chat = chat;
  PV_ASSIGN_OR_RETURN(request.model, api::ModelOf(body));
  PV_RETURN_IF_ERROR(chat ? ReadMessages(body, request.messages) : ReadPrompt(body, request));
  PV_RETURN_IF_ERROR(ReadSampling(body, request.text.sampling));
  PV_RETURN_IF_ERROR(ReadStops(body, request.text.stops));
  PV_RETURN_IF_ERROR(ReadLength(body, request));
  PV_RETURN_IF_ERROR(ReadStream(body, request));
  PV_RETURN_IF_ERROR(Flag(body, "echo", request.echo));
  return request;
}

}  // namespace polyveil::serve
