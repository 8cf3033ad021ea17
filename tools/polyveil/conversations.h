// Texts of the proxy's clients on one server: each a session, which the next turn of the same
// dialogue goes on with.
#pragma once

#include <list>
#include <memory>
#include <string>
#include <vector>

#include "model/client/chat_template.h"
#include "polyveil/model_session.h"
#include "polyveil/public_part.h"
#include "serve/client/proxy/text_engine.h"
#include "serve/client/text_run.h"
#include "serve/metrics.h"

namespace polyveil::tools {

struct ConversationOptions {
  size_t sessions = 4;   // kept for a next turn
  int new_tokens = 256;  // of an answer, where a request names no number
  PublicOptions known;   // the template's head, of chats without a system text
};

class Conversations final : public serve::TextEngine {
 public:
  // session: with its keys on the server. Everything given outlives this object. Says on stderr
  // what chats send in the clear. report: of the connection and its keys. Errors: AnnouncePublic's.
  static Result<std::unique_ptr<Conversations>> Create(ModelSession& session,
                                                       const ConversationOptions& options,
                                                       const RunReport& report,
                                                       serve::Metrics& metrics);
  ~Conversations() override;

  const std::string& model() const override { return session_.remote().info().name; }
  std::string fingerprint() const override;
  serve::EngineFacts facts() const override { return facts_; }
  Result<serve::PreparedText> Prepare(serve::TextRequest request) const override;
  Result<serve::TextOutcome> Run(const serve::PreparedText& text, const std::atomic<bool>& cancel,
                                 const serve::TextEvents& events) override;

 private:
  struct Conversation {
    std::unique_ptr<serve::EncryptedSession> session;
    std::vector<model::TokenId> tokens;        // with what stands before every text
    size_t fed = 0;                            // of them, those that the server has
    std::vector<serve::ChatMessage> dialogue;  // that they are; empty: unknown
    bool ended = false;                        // the answer, by its own token
  };
  using Iterator = std::list<Conversation>::iterator;
  class Events;

  Conversations(ModelSession& session, const ConversationOptions& options, const RunReport& report,
                serve::Metrics& metrics);
  Status Publish(const PublicOptions& options);
  // What a text that no session goes on with sends in the clear, the prefix first; or nothing.
  std::vector<model::TokenId> HeadOf(const serve::TextRequest& request) const;
  std::vector<model::TokenId> TokensOf(const std::vector<serve::ChatMessage>& messages) const;
  // The conversation that the text goes on with, at the list's front, and the text's tokens as they
  // stand in it; nothing where there is none.
  bool Resume(const serve::PreparedText& text, std::vector<model::TokenId>& tokens);
  Status Begin(std::vector<model::TokenId> head);
  Result<serve::TextOutcome> Continue(const serve::PreparedText& text,
                                      const std::vector<model::TokenId>& tokens, Events& events);
  void Keep(const serve::PreparedText& text, const serve::TextRun& run, const std::string& answer,
            const Result<model::TextEnd>& end);
  void Account(const RunReport& report);

  ModelSession& session_;
  const model::ClientHalf& half_;
  const ConversationOptions options_;
  serve::Metrics& metrics_;
  const Result<model::ChatTemplate> form_;
  const serve::EngineFacts facts_;
  std::vector<model::TokenId> head_;       // of chats, the prefix first; empty: all is encrypted
  std::list<Conversation> conversations_;  // the last used first; of Run alone
};

}  // namespace polyveil::tools
