#include "serve/client/submitted_text.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "ckks/client/decryptor.h"
#include "ckks/client/encryptor.h"
#include "ckks/encoder.h"
#include "serve/client/encrypted_session.h"
#include "wire/client/secret_key_file.h"
#include "wire/json_fields.h"

namespace polyveil::serve {

using nlohmann::json;

namespace {

Result<SubmittedState> StateFromJson(const json& body) {
  SubmittedState state;
  for (const auto& [name, field] :
       {std::pair{"state", &state.state}, std::pair{"operation", &state.operation},
        std::pair{"waiting", &state.waiting}}) {
    PV_ASSIGN_OR_RETURN(*field, PeerText(body, name, 128));
  }
  for (const auto& [name, field] :
       {std::pair{"prompt_tokens", &state.prompt_tokens},
        std::pair{"new_tokens", &state.new_tokens}, std::pair{"messages", &state.messages},
        std::pair{"received", &state.received}, std::pair{"chosen", &state.chosen}}) {
    PV_ASSIGN_OR_RETURN(const auto value, wire::JsonInteger(body, name, 0, 1 << 24));
    *field = static_cast<int>(value);
  }
  PV_ASSIGN_OR_RETURN(state.done, wire::JsonNumber(body, "done", 0, 1.01));
  if (body.contains("error")) state.error = ErrorFromReply(200, body.dump());
  return state;
}

// What no server's text can be.
Status CheckState(const SubmittedState& state) {
  constexpr std::string_view kStates[] = {"receiving", "running", "done", "failed"};
  if (std::ranges::find(kStates, state.state) == std::end(kStates))
    return MakeError(ErrorCode::kCorrupt, "job: field 'state' = '{}', unknown", state.state);
  const int least = state.state == "done" ? state.new_tokens : 0;
  if (state.chosen < least || state.chosen > state.new_tokens)
    return MakeError(ErrorCode::kMismatch, "job: chosen = {} of {} tokens in state '{}'",
                     state.chosen, state.new_tokens, state.state);
  if ((state.state == "failed") != state.error.has_value())
    return MakeError(ErrorCode::kCorrupt, "job: state '{}' {} field 'error'", state.state,
                     state.error ? "with" : "without");
  return {};
}

}  // namespace

Result<SubmittedText> SubmittedText::Create(RemoteModel& remote, const SubmittedRequest& asked) {
  if (remote.info().choice.vocabulary == 0)
    return MakeError(ErrorCode::kInvalidArgument,
                     "this server chooses no tokens (polyveil-server --choose)");
  json body = {{"keys", asked.keys},
               {"request_id", RemoteModel::NewRequestId()},
               {"prompt_tokens", asked.prompt_tokens},
               {"new_tokens", asked.new_tokens},
               {"temperature", asked.temperature}};
  if (asked.seed) body["seed"] = ToHex(*asked.seed);
  if (!asked.public_tokens.empty())
    body["public"] = {
        {"tokens", asked.public_tokens},
        {"digest", ToHex(PublicDigest(remote.info().tensors_sha256, asked.public_tokens))}};
  const std::string text = body.dump();
  ClientRequest request = remote.NewRequest("POST", "/v1/jobs", text);
  request.reply_seconds = request.total_seconds = remote.options().prepare_seconds;
  PV_ASSIGN_OR_RETURN(const json reply, remote.CallRepeated(request));
  PV_ASSIGN_OR_RETURN(std::string id, RemoteModel::NameFrom(reply));
  return SubmittedText(remote, std::move(id));
}

ClientRequest SubmittedText::NewRequest(const char* method, std::string path) const {
  ClientRequest request = remote_->NewRequest(method, std::move(path));
  request.handle = id_;
  return request;
}

Result<compile::ChoiceLayout> SubmittedText::Layout() const {
  const ModelInfo& info = remote_->info();
  return compile::ChoiceLayout::Create(remote_->params()->slots(), info.d_model,
                                       info.choice.vocabulary, info.context);
}

Status SubmittedText::SendPrompt(const ckks::SecretKey& key, int first,
                                 std::span<const std::int32_t> tokens) {
  PV_ASSIGN_OR_RETURN(const auto layout, Layout());
  for (const std::int32_t token : tokens) PV_RETURN_IF_ERROR(layout.CheckToken(token));
  const int messages = layout.Messages(first, static_cast<int>(tokens.size()));
  for (int i = 0; i < messages; ++i) PV_RETURN_IF_ERROR(SendMessage(key, first, tokens, i));
  return {};
}

Status SubmittedText::SendMessage(const ckks::SecretKey& key, int first,
                                  std::span<const std::int32_t> tokens, int index) {
  PV_ASSIGN_OR_RETURN(const auto layout, Layout());
  const ckks::Parameters& params = *remote_->params();
  const int position = layout.MessageBegin(first, index), level = remote_->info().choice.level;
  const auto rest =
      tokens.subspan(std::min(tokens.size(), static_cast<size_t>(std::max(0, position - first))));
  PV_ASSIGN_OR_RETURN(const auto slots, compile::PackTokenBits(layout, position, rest));
  PV_ASSIGN_OR_RETURN(const auto plain,
                      ckks::Encoder(remote_->params()).Encode(slots, level, params.scale(level)));
  const wire::Bytes body =
      wire::FormatToken(params, remote_->BindingOf(wire::KeyIdOf(key)), static_cast<u32>(position),
                        ckks::Encryptor(key).Encrypt(plain));
  ClientRequest request = NewRequest("PUT", "/v1/jobs/prompt/" + std::to_string(index));
  request.body = body;
  request.content_type = kBinaryType;
  request.reply_seconds = 5 * remote_->options().reply_seconds;
  PV_RETURN_IF_ERROR(remote_->CallRepeated(request));
  return {};
}

Result<SubmittedState> SubmittedText::State() {
  PV_ASSIGN_OR_RETURN(const json body, remote_->CallRepeated(NewRequest("GET", "/v1/jobs")));
  PV_ASSIGN_OR_RETURN(SubmittedState state, StateFromJson(body));
  PV_RETURN_IF_ERROR(CheckState(state));
  return state;
}

Status SubmittedText::Remove() { return remote_->Delete("/v1/jobs", id_); }

// first: position of its first choice, which both messages have.
Result<SubmittedText::Page> SubmittedText::Fetch(const ckks::SecretKey& key, int index, int first) {
  const ckks::Parameters& params = *remote_->params();
  const size_t bytes = wire::ResultBytes(params, 0);
  ClientRequest request = NewRequest("GET", "/v1/jobs/pages/" + std::to_string(index));
  request.max_reply_bytes = 2 * bytes;
  PV_ASSIGN_OR_RETURN(const std::string reply, remote_->TextRepeated(request));
  if (reply.size() != 2 * bytes)
    return MakeError(ErrorCode::kCorrupt, "page {}: {} bytes, expected {}", index, reply.size(),
                     2 * bytes);
  const wire::ByteView view(reinterpret_cast<const std::uint8_t*>(reply.data()), reply.size());
  const wire::MessageBounds bounds{remote_->BindingOf(wire::KeyIdOf(key)), static_cast<u32>(first),
                                   0, params.scale(0)};
  const ckks::Encoder encoder(remote_->params());
  const auto read = [&](wire::ByteView part) -> Result<std::vector<ckks::Complex>> {
    PV_ASSIGN_OR_RETURN(const auto result, wire::ParseResult(params, part, bounds));
    return encoder.Decode(ckks::Decryptor(key).Decrypt(result), params.slots());
  };
  Page page;
  PV_ASSIGN_OR_RETURN(page.bits, read(view.first(bytes)));
  PV_ASSIGN_OR_RETURN(page.residuals, read(view.subspan(bytes)));
  return page;
}

Result<SubmittedText::Chosen> SubmittedText::Collect(const ckks::SecretKey& key, int first,
                                                     int count) {
  PV_ASSIGN_OR_RETURN(const auto layout, Layout());
  const ResultGuard guard(ShapeOfResult(remote_->info()), *remote_->params());
  Chosen chosen;
  Page page;
  for (int i = 0, index = -1; i < count; ++i) {
    const int position = first + i;
    if (i == 0 || layout.place(position) == 0) {
      PV_ASSIGN_OR_RETURN(page, Fetch(key, ++index, position));
    }
    PV_RETURN_IF_ERROR(
        guard.Read(compile::UnpackResidual(layout, page.residuals, position), position + 1));
    PV_ASSIGN_OR_RETURN(const auto read, compile::UnpackChoice(layout, page.bits, position));
    if (!read.decided()) {
      chosen.undecided = read;
      break;
    }
    chosen.tokens.push_back(read);
  }
  return chosen;
}

}  // namespace polyveil::serve
