#include "polyveil/conversations.h"

#include <algorithm>
#include <map>
#include <utility>

#include "polyveil/proxy_costs.h"

namespace polyveil::tools {
namespace {

using model::TokenId;
using serve::ChatMessage;

constexpr int kCompletionTokens = 16;  // of a completion that names no number, as the API has it

bool StartsWith(const auto& whole, const auto& part) {
  return whole.size() >= part.size() && std::equal(part.begin(), part.end(), whole.begin());
}

}  // namespace

// What the proxy's client hears of a run.
class Conversations::Events final : public serve::TextObserver {
 public:
  Events(const serve::TextEvents& events, const serve::RemoteModel& remote)
      : events_(events), remote_(remote) {}
  // Of the run that it hears of.
  void Watch(const RunReport& report) {
    report_ = &report;
    seconds_.clear();
    bytes_up_ = bytes_down_ = 0;
  }
  serve::RemoteProgressCallback Asking(const std::string&, double) override {
    return events_.on_progress;
  }
  void Answered() override {}
  void Fed(const TokenReport& token, const model::TextStep& step, int) override {
    new_tokens += step.next.has_value();
    events_.on_token(CostOf(token));
  }
  void Show(std::string_view text) {
    answer += text;
    events_.on_text(text);
  }

  int new_tokens = 0;
  std::string answer;

 private:
  // What the report has more than at the token before.
  serve::TokenCost CostOf(const TokenReport& token) {
    serve::TokenCost cost;
    cost.seconds = token.seconds;
    for (const auto& row : report_->latency.components) {
      const double before = std::exchange(seconds_[row.name], row.seconds);
      if (row.seconds > before) cost.parts.emplace_back(row.name, row.seconds - before);
    }
    cost.bytes_up = report_->bytes_up - std::exchange(bytes_up_, report_->bytes_up);
    cost.bytes_down = report_->bytes_down - std::exchange(bytes_down_, report_->bytes_down);
    cost.sent_bytes = remote_.sent().bytes;
    cost.sent_begin = remote_.sent().begin;
    return cost;
  }

  const serve::TextEvents& events_;
  const serve::RemoteModel& remote_;
  const RunReport* report_ = nullptr;
  std::map<std::string, double> seconds_;
  u64 bytes_up_ = 0, bytes_down_ = 0;
};

Conversations::Conversations(ModelSession& session, const ConversationOptions& options,
                             const RunReport& report, serve::Metrics& metrics)
    : session_(session),
      half_(*session.half()),
      options_(options),
      metrics_(metrics),
      form_(model::ChatTemplate::For(half_)),
      facts_(FactsOf(report)) {
  DescribeCosts(metrics_);
  metrics_.Describe("polyveil_proxy_sessions", "Sessions that are kept for a next turn.");
}

Conversations::~Conversations() = default;

Result<std::unique_ptr<Conversations>> Conversations::Create(ModelSession& session,
                                                             const ConversationOptions& options,
                                                             const RunReport& report,
                                                             serve::Metrics& metrics) {
  std::unique_ptr<Conversations> made(new Conversations(session, options, report, metrics));
  PV_RETURN_IF_ERROR(made->Publish(WithoutPlace(options.known, report.info)));
  return made;
}

Status Conversations::Publish(const PublicOptions& options) {
  if (!form_.ok()) return {};  // no chats, then
  head_ = form_->Head(form_->default_system());
  const std::span<const TokenId> behind(head_);
  PV_ASSIGN_OR_RETURN(const auto known,
                      AnnouncePublic(half_, behind.subspan(static_cast<size_t>(half_.prefix())),
                                     options, session_.remote().info()));
  if (known.empty()) head_.clear();
  return {};
}

std::vector<TokenId> Conversations::HeadOf(const serve::TextRequest& request) const {
  const bool constant = request.chat && request.messages[0].role != "system";
  return constant ? head_ : std::vector<TokenId>();
}

std::string Conversations::fingerprint() const {
  return "pv_" + session_.remote().info().program_digest.substr(0, 16);
}

std::vector<TokenId> Conversations::TokensOf(const std::vector<ChatMessage>& messages) const {
  const bool has_system = messages[0].role == "system";
  const std::string system = has_system ? messages[0].text : form_->default_system();
  std::vector<TokenId> tokens = form_->FirstTurn(system, messages[has_system].text);
  for (size_t i = has_system + 1u; i + 1 < messages.size(); i += 2) {
    const auto answer = half_.EncodePart(messages[i].text);
    const auto turn = form_->NextTurn(messages[i + 1].text, false);
    tokens.insert(tokens.end(), answer.begin(), answer.end());
    tokens.insert(tokens.end(), turn.begin(), turn.end());
  }
  return tokens;
}

Result<serve::PreparedText> Conversations::Prepare(serve::TextRequest request) const {
  serve::PreparedText text;
  const int context = session_.context();
  if (request.chat) {
    if (!form_.ok()) return form_.error();
    if (request.messages[0].role == "system" && !request.messages[0].text.empty() &&
        !form_->has_system())
      return MakeError(ErrorCode::kInvalidArgument,
                       "messages[0].role: the model's chat template ({}) has no place for a system "
                       "text",
                       form_->name());
    text.tokens = TokensOf(request.messages);
    request.text.ends = form_->ends();
    const std::vector<TokenId> head = HeadOf(request);
    if (!StartsWith(text.tokens, head))
      return MakeError(ErrorCode::kInvalidArgument,
                       "messages[0].content: its beginning merges with the template's head, which "
                       "is public: begin it otherwise (or start the proxy with --all-private)");
    if (const int tokens = static_cast<int>(text.tokens.size()) - half_.prefix(); tokens > context)
      return MakeError(ErrorCode::kOutOfRange, "messages: {} tokens, the model's context is {}",
                       tokens, context);
  } else {
    PV_ASSIGN_OR_RETURN(PromptTokens prompt,
                        EncodePrompt(half_, {"", request.prompt_ids, request.prompt}, context));
    text.tokens = std::move(prompt.all);
    if (request.echo && request.prompt.empty()) request.prompt = TextOf(half_, request.prompt_ids);
  }
  PV_RETURN_IF_ERROR(model::ValidateTextOptions(request.text));
  text.new_tokens =
      request.new_tokens.value_or(request.chat ? options_.new_tokens : kCompletionTokens);
  text.request = std::move(request);
  return text;
}

bool Conversations::Resume(const serve::PreparedText& text, std::vector<TokenId>& tokens) {
  const std::vector<ChatMessage>& messages = text.request.messages;
  const auto found = std::ranges::find_if(conversations_, [&](const Conversation& c) {
    if (text.request.chat && !c.dialogue.empty() && c.dialogue.size() + 1 == messages.size() &&
        StartsWith(messages, c.dialogue)) {
      // As the model wrote the answer, not as the tokenizer would write it.
      tokens = c.tokens;
      const auto turn = form_->NextTurn(messages.back().text, c.ended);
      tokens.insert(tokens.end(), turn.begin(), turn.end());
      if (static_cast<int>(tokens.size()) - half_.prefix() <= session_.context()) return true;
    }
    tokens = text.tokens;
    return c.fed > 0 && c.fed < tokens.size() &&
           std::equal(c.tokens.begin(), c.tokens.begin() + static_cast<ptrdiff_t>(c.fed),
                      tokens.begin());
  });
  if (found == conversations_.end()) return false;
  conversations_.splice(conversations_.begin(), conversations_, found);
  return true;
}

// A new one at the list's front.
Status Conversations::Begin(std::vector<TokenId> head) {
  while (conversations_.size() >= std::max<size_t>(options_.sessions, 1)) conversations_.pop_back();
  const auto known = std::span<const TokenId>(head).subspan(
      std::min(head.size(), static_cast<size_t>(half_.prefix())));
  PV_ASSIGN_OR_RETURN(auto session,
                      session_.NewTextOfAny(known, [this] { conversations_.clear(); }));
  Conversation& conversation = conversations_.emplace_front();
  conversation.session = std::move(session);
  conversation.fed = head.size();
  conversation.tokens = std::move(head);
  return {};
}

void Conversations::Account(const RunReport& report) {
  double server = 0;
  for (const TokenReport& token : report.tokens) server += token.server_seconds;
  CountCosts(metrics_, server, report.tokens_seconds, report.bytes_up, report.bytes_down);
  metrics_.Set("polyveil_proxy_sessions", "", static_cast<double>(conversations_.size()));
}

// What the server has taken it has, however the text ended. A session whose position is another
// than the text's, or whose results are not believed, is no one's any more.
void Conversations::Keep(const serve::PreparedText& text, const serve::TextRun& run,
                         const std::string& answer, const Result<model::TextEnd>& end) {
  Conversation& kept = conversations_.front();
  const bool lost = !end.ok() && end.error().code != ErrorCode::kCancelled &&
                    end.error().code != ErrorCode::kUnavailable;
  if (lost || kept.session->position() != run.loop().fed()) {
    conversations_.pop_front();
    return;
  }
  kept.tokens = run.loop().text();
  kept.fed = static_cast<size_t>(half_.prefix() + run.loop().fed());
  kept.dialogue.clear();
  // A stop text is not part of what was shown, but its tokens are in the session.
  if (!text.request.chat || !end.ok() || *end == model::TextEnd::kStop) return;
  kept.dialogue = text.request.messages;
  kept.dialogue.push_back({"assistant", answer});
  kept.ended = *end == model::TextEnd::kEndToken && form_->Ends(kept.tokens.back());
}

Result<serve::TextOutcome> Conversations::Continue(const serve::PreparedText& text,
                                                   const std::vector<TokenId>& tokens,
                                                   Events& events) {
  Conversation& conversation = conversations_.front();
  RunReport report;
  report.info = session_.remote().info();
  const int context = std::min(half_.context(), conversation.session->server_session().context);
  serve::TextRun run(half_, context, *conversation.session, {text.request.text, false}, nullptr,
                     events, report);
  const std::span<const TokenId> all(tokens);
  events.Watch(report);
  if (conversation.fed > 0) run.Preload(all.first(conversation.fed));
  serve::TextOutcome outcome;
  outcome.prompt_tokens = static_cast<int>(tokens.size()) - half_.prefix();
  outcome.reused_tokens = std::max(0, static_cast<int>(conversation.fed) - half_.prefix());
  const auto end = run.Continue(all.subspan(conversation.fed), text.new_tokens,
                                [&](std::string_view piece) { events.Show(piece); });
  Keep(text, run, events.answer, end);
  Account(report);
  if (!end.ok()) return session_.Explain(end.error());
  outcome.end = *end;
  outcome.new_tokens = events.new_tokens;
  return outcome;
}

Result<serve::TextOutcome> Conversations::Run(const serve::PreparedText& text,
                                              const std::atomic<bool>& cancel,
                                              const serve::TextEvents& listener) {
  const CancelledBy scope(session_.remote(), cancel);
  Events events(listener, session_.remote());
  std::vector<TokenId> tokens;
  if (Resume(text, tokens)) {
    auto outcome = Continue(text, tokens, events);
    // The server has given the session's place away before anything came of it: once more.
    const bool gone = !outcome.ok() && outcome.error().code == ErrorCode::kNotFound;
    if (!gone || events.new_tokens > 0) return outcome;
  }
  PV_RETURN_IF_ERROR(Begin(HeadOf(text.request)));
  return Continue(text, text.tokens, events);
}

}  // namespace polyveil::tools
