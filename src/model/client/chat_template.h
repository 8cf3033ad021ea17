// How a dialogue is written for a model: the families of templates that released models have, known
// by their markers. Jinja itself is not run.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model/client/client_half.h"

namespace polyveil::model {

class ChatTemplate {
 public:
  // By the template's markers: ChatML (SmolLM2, Qwen2), Llama 2 and Mistral ([INST]), Llama 3,
  // Zephyr (TinyLlama). A model without a template has the plain form: turns are lines of one text.
  // Errors: those of CheckWrites; kInvalidArgument for a template of none or of several of them,
  // and for a tokenizer that lacks a marker as a token of its own (named).
  static Result<ChatTemplate> For(const ClientHalf& half);

  const std::string& name() const { return form_.name; }  // "ChatML"
  // The system text that the template begins a dialogue with where none is given.
  const std::string& default_system() const { return default_system_; }
  bool has_system() const { return !form_.system_open.empty(); }

  // Tokens of a dialogue's first turn, up to where the model answers: with what stands before a
  // text. Requires has_system() or an empty system text.
  std::vector<TokenId> FirstTurn(std::string_view system, std::string_view user) const;
  // What every dialogue's first turn begins with, whatever the user says: of this system text, or
  // (nothing) of any. Made without a look at the user's words, so that its length tells nothing of
  // them.
  std::vector<TokenId> Head(const std::optional<std::string>& system) const;
  // Those of a later one, behind an answer. ended: the answer's last token ended it.
  std::vector<TokenId> NextTurn(std::string_view user, bool ended) const;
  // Ends an answer, beside the model's end tokens; none in the plain form.
  std::vector<TokenId> ends() const {
    return end_ < 0 ? std::vector<TokenId>() : std::vector<TokenId>{end_};
  }
  bool Ends(TokenId token) const { return token == end_; }

 private:
  struct Form {
    std::string name, system_open, system_close;
    std::string user_open, user_close;  // the latter up to the answer
    std::string answer_end;             // one token; empty: none
    std::string between;                // behind it, before the next turn
    std::vector<std::string> markers;   // tokens of their own
    bool trims = false;                 // white space around what is said
  };
  static std::vector<Form> Known(std::string_view jinja);
  std::string Said(std::string_view text) const;
  ChatTemplate(const ClientHalf& half, Form form) : half_(&half), form_(std::move(form)) {}

  const ClientHalf* half_;
  Form form_;
  std::string default_system_;
  TokenId end_ = -1;
};

}  // namespace polyveil::model
