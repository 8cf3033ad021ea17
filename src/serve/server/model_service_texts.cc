// What texts begin with: sessions, public contexts, jobs that a client collects later.
#include <nlohmann/json.hpp>

#include "base/csprng.h"
#include "serve/server/model_service.h"
#include "serve/server/replies.h"
#include "serve/server/request_fields.h"
#include "wire/json_fields.h"

namespace polyveil::serve {

using nlohmann::json;

namespace {

Status CheckComplete(KeySet& set) {
  const std::lock_guard lock(set.mutex);
  if (set.engine) return {};
  return MakeError(ErrorCode::kUnavailable, "keys '{}' are not complete", set.handle);
}

Result<StoredSubmission> SubmissionFromJson(const json& body) {
  StoredSubmission asked;
  PV_ASSIGN_OR_RETURN(const auto prompt, wire::JsonInteger(body, "prompt_tokens", 1, INT32_MAX));
  PV_ASSIGN_OR_RETURN(const auto more, wire::JsonInteger(body, "new_tokens", 1, INT32_MAX));
  asked.prompt_tokens = static_cast<int>(prompt);
  asked.new_tokens = static_cast<int>(more);
  if (body.contains("temperature")) {
    PV_ASSIGN_OR_RETURN(asked.temperature, wire::JsonNumber(body, "temperature", 0, 1e6));
  }
  asked.seed = ToHex(RandomSeed());
  if (body.contains("seed")) {
    PV_ASSIGN_OR_RETURN(asked.seed, wire::JsonString(body, "seed", 64));
    PV_RETURN_IF_ERROR(DigestFromHex(asked.seed));
  }
  PV_ASSIGN_OR_RETURN(asked.request_id, RequestId(body));
  return asked;
}

json ReportToJson(const Submission& text) {
  const SubmissionReport report = text.Report();
  json body = {{"state", SubmissionPhaseName(report.phase)},
               {"prompt_tokens", text.stored().prompt_tokens},
               {"new_tokens", text.stored().new_tokens},
               {"messages", text.messages()},
               {"received", report.received},
               {"position", report.position},
               {"chosen", report.chosen},
               {"done", report.done},
               {"operation", report.operation},
               {"waiting", report.waiting}};
  if (report.phase == SubmissionPhase::kFailed)
    body.merge_patch(json::parse(ErrorToJson(report.error)));
  return body;
}

}  // namespace

Status ModelService::CreateSession(Exchange& exchange) {
  PV_ASSIGN_OR_RETURN(const json body, RequestJson(exchange, BeginningJsonBytes(info_)));
  PV_RETURN_IF_ERROR(CheckFields(body, "request body", {"keys", "request_id", "public"}));
  PV_ASSIGN_OR_RETURN(const std::string handle, wire::JsonString(body, "keys", 64));
  PV_RETURN_IF_ERROR(CheckRestored(handle));
  SessionRequest request;
  PV_ASSIGN_OR_RETURN(request.request_id, RequestId(body));
  request.member = MemberOf(exchange);
  const Member member = request.member;
  PV_ASSIGN_OR_RETURN(const auto set, FindKeys(member, handle));
  json reply;
  if (body.contains("public")) {
    if (const auto spent = Admission::CheckSeconds(member)) return ReplyRefusal(exchange, *spent);
    PV_RETURN_IF_ERROR(TakePublic(exchange, body["public"], set, request));
    reply["public"] = {{"tokens", request.known->tokens},
                       {"out_of_range", request.known->out_of_range},
                       {"worst_site", request.known->worst_site}};
  }
  PV_ASSIGN_OR_RETURN(const auto session,
                      sessions_.Create(set, std::move(request), exchange.connection()));
  if (!session)
    return ReplyRefusal(exchange, Admission::Full(member, "sessions", member.usage->sessions,
                                                  *member.account->quota.sessions, false));
  if (keeper_) PV_RETURN_IF_ERROR(keeper_->Created(*session));
  reply["id"] = session->handle;
  reply["position"] = session->position.load();
  reply["context"] = model_->ContextBehind(session->first_position);
  return ReplyJson(exchange, 201, reply);
}

Status ModelService::TakePublic(Exchange& exchange, const json& body,
                                const std::shared_ptr<KeySet>& set, SessionRequest& request) {
  if (info_.public_tokens == 0)
    return MakeError(ErrorCode::kInvalidArgument,
                     "field 'public': this server takes no public context (public_tokens = 0)");
  PV_RETURN_IF_ERROR(CheckFields(body, "field 'public'", {"tokens", "digest"}));
  PV_ASSIGN_OR_RETURN(const auto tokens, TokensFromJson(body, info_.public_tokens));
  PV_ASSIGN_OR_RETURN(const std::string digest, wire::JsonString(body, "digest", 64));
  PV_ASSIGN_OR_RETURN(request.public_digest, DigestFromHex(digest));
  const Digest own = PublicDigest(info_.tensors_sha256, tokens);
  if (own != request.public_digest)
    return MakeError(
        ErrorCode::kMismatch, "public.digest = {}..., these tokens of model {}... have {}...",
        digest.substr(0, 16), info_.tensors_sha256.substr(0, 16), ToHex(own).substr(0, 16));
  PV_RETURN_IF_ERROR(CheckComplete(*set));
  PV_ASSIGN_OR_RETURN(const auto entry, public_contexts_.Ask(tokens, own, queue_, set.get()));
  while (!entry->job->WaitFor(kPollSeconds)) {
    // The computation goes on: the client may ask again.
    if (exchange.Disconnected()) return MakeError(ErrorCode::kUnavailable, "the client has left");
  }
  PV_ASSIGN_OR_RETURN(request.known, public_contexts_.Finish(entry));
  request.public_tokens = tokens;
  return {};
}

Status ModelService::RouteJobs(Exchange& exchange, const Segments& path) {
  if (!submissions_)
    return MakeError(ErrorCode::kInvalidArgument, "{}",
                     model_->choice() ? "this server keeps no state (--state): a job would be lost"
                                      : "this server chooses no tokens (--choose)");
  const auto& [method, handle] = std::tie(exchange.request().method, exchange.request().handle);
  if (path.size() == 2 && method == "POST") return CreateJob(exchange);
  PV_ASSIGN_OR_RETURN(auto text, submissions_->Find(handle, *MemberOf(exchange).usage));
  if (path.size() == 2 && method == "GET") return ReplyJson(exchange, 200, ReportToJson(*text));
  if (path.size() == 2 && method == "DELETE") {
    text.reset();  // its last holder removes the folder, before the answer
    PV_RETURN_IF_ERROR(submissions_->Remove(handle));
    return ReplyJson(exchange, 200, {{"id", handle}, {"removed", true}});
  }
  if (path.size() != 4) return NoRoute(exchange);
  text->last_use.Touch(exchange.connection());
  if (path[2] == "prompt" && method == "PUT") {
    PV_ASSIGN_OR_RETURN(const u64 index, ParseIndex("message number", path[3]));
    PV_RETURN_IF_ERROR(text->Receive(index, exchange.request().body));
    return ReplyJson(exchange, 200, {{"next_message", index + 1}});
  }
  if (path[2] == "pages" && method == "GET") return SendPage(exchange, *text, path[3]);
  return NoRoute(exchange);
}

Status ModelService::SendPage(Exchange& exchange, const Submission& text,
                              const std::string& index) {
  PV_ASSIGN_OR_RETURN(const u64 number, ParseIndex("page number", index));
  HttpReply reply;
  reply.content_type = kBinaryType;
  PV_ASSIGN_OR_RETURN(reply.bytes, text.Page(number));
  (void)exchange.Reply(reply).ok();  // who is gone has no use for an error
  return {};
}

Status ModelService::CreateJob(Exchange& exchange) {
  PV_ASSIGN_OR_RETURN(const json body, RequestJson(exchange, BeginningJsonBytes(info_)));
  PV_RETURN_IF_ERROR(CheckFields(
      body, "request body",
      {"keys", "request_id", "public", "prompt_tokens", "new_tokens", "temperature", "seed"}));
  PV_ASSIGN_OR_RETURN(const std::string handle, wire::JsonString(body, "keys", 64));
  PV_RETURN_IF_ERROR(CheckRestored(handle));
  const Member member = MemberOf(exchange);
  PV_ASSIGN_OR_RETURN(const auto set, FindKeys(member, handle));
  PV_ASSIGN_OR_RETURN(StoredSubmission asked, SubmissionFromJson(body));
  SessionRequest known;
  if (body.contains("public")) {
    if (const auto spent = Admission::CheckSeconds(member)) return ReplyRefusal(exchange, *spent);
    PV_RETURN_IF_ERROR(TakePublic(exchange, body["public"], set, known));
  }
  asked.public_tokens = known.public_tokens;
  PV_ASSIGN_OR_RETURN(const auto text,
                      submissions_->Create(std::move(asked), set, std::move(known.known), member));
  if (!text)
    return ReplyRefusal(exchange, Admission::Full(member, "sessions", member.usage->sessions,
                                                  *member.account->quota.sessions, false));
  text->last_use.Touch(exchange.connection());
  json reply = ReportToJson(*text);
  reply["id"] = text->stored().handle;
  return ReplyJson(exchange, 201, reply);
}

}  // namespace polyveil::serve
