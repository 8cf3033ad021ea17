#include "model/client/chat_template.h"

#include <algorithm>

#include "base/printable.h"

namespace polyveil::model {
namespace {

bool Has(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

// "...<|im_start|>system\nYou are ...<|im_end|>...": a text of the template's own, no expression.
std::string LiteralBetween(std::string_view jinja, std::string_view open, std::string_view close) {
  for (size_t at = jinja.find(open); at != std::string_view::npos; at = jinja.find(open, at + 1)) {
    std::string_view rest = jinja.substr(at + open.size());
    for (const std::string_view line_end : {"\\n", "\n"})
      if (rest.starts_with(line_end)) {
        rest.remove_prefix(line_end.size());
        break;
      }
    const std::string_view text = rest.substr(0, rest.find(close));
    const bool literal = text.find_first_of("'\"{}\\") == std::string_view::npos;
    if (literal && !text.empty() && text.size() < rest.size()) return std::string(text);
  }
  return {};
}

}  // namespace

// clang-format off
std::vector<ChatTemplate::Form> ChatTemplate::Known(std::string_view jinja) {
  std::vector<Form> forms;
  if (Has(jinja, "<|im_start|>") && Has(jinja, "<|im_end|>"))
    forms.push_back({"ChatML", "<|im_start|>system\n", "<|im_end|>\n", "<|im_start|>user\n",
                     "<|im_end|>\n<|im_start|>assistant\n", "<|im_end|>", "\n",
                     {"<|im_start|>", "<|im_end|>"}});
  if (Has(jinja, "<|start_header_id|>") && Has(jinja, "<|eot_id|>"))
    forms.push_back({"Llama 3", "<|start_header_id|>system<|end_header_id|>\n\n", "<|eot_id|>",
                     "<|start_header_id|>user<|end_header_id|>\n\n",
                     "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n", "<|eot_id|>",
                     "", {"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"}});
  if (Has(jinja, "<|user|>") && Has(jinja, "<|assistant|>") && !Has(jinja, "<|end|>"))
    forms.push_back({"Zephyr", "<|system|>\n", "</s>\n", "<|user|>\n", "</s>\n<|assistant|>\n",
                     "</s>", "\n", {"</s>"}});
  if (Has(jinja, "[INST]") && Has(jinja, "[/INST]")) {
    if (Has(jinja, "<<SYS>>"))
      forms.push_back({"Llama 2", "<<SYS>>\n", "\n<</SYS>>\n\n", "[INST] ", " [/INST]", "</s>",
                       "<s>", {"</s>", "<s>"}});
    else
      forms.push_back({"Mistral", "", "", "[INST] ", " [/INST]", "</s>", "", {"</s>"}});
  }
  return forms;
}
// clang-format on

Result<ChatTemplate> ChatTemplate::For(const ClientHalf& half) {
  PV_RETURN_IF_ERROR(half.CheckWrites());
  const std::string jinja = half.ChatTemplate();
  if (jinja.empty()) return ChatTemplate(half, {"plain", "", "", "", "", "", "\n", {}});
  std::vector<Form> forms = Known(jinja);
  if (forms.size() != 1)
    return MakeError(ErrorCode::kInvalidArgument,
                     "the model's chat template is of {} of the known families (ChatML, Llama 2, "
                     "Mistral, Llama 3, Zephyr): it begins with \"{}\"",
                     forms.empty() ? "none" : "several", Printable(jinja, 80));
  for (const std::string& marker : forms[0].markers)
    if (half.EncodePart(marker).size() != 1)
      return MakeError(ErrorCode::kInvalidArgument,
                       "the model's chat template ({}) needs \"{}\", which the tokenizer cuts into "
                       "{} tokens",
                       forms[0].name, marker, half.EncodePart(marker).size());
  ChatTemplate result(half, std::move(forms[0]));
  result.form_.trims = Has(jinja, "| trim") || Has(jinja, "|trim") || Has(jinja, ".strip()");
  result.end_ = half.EncodePart(result.form_.answer_end)[0];
  if (result.form_.name == "ChatML")
    result.default_system_ = LiteralBetween(jinja, "<|im_start|>system", "<|im_end|>");
  return result;
}

std::string ChatTemplate::Said(std::string_view text) const {
  constexpr std::string_view kSpace = " \t\n\v\f\r";
  if (!form_.trims) return std::string(text);
  text.remove_prefix(std::min(text.find_first_not_of(kSpace), text.size()));
  return std::string(text.substr(0, text.find_last_not_of(kSpace) + 1));
}

std::vector<TokenId> ChatTemplate::FirstTurn(std::string_view system, std::string_view user) const {
  std::string text;
  if (!system.empty()) text = form_.system_open + Said(system) + form_.system_close;
  // Llama 2's system text stands inside the first user's turn.
  text = form_.name == "Llama 2" ? form_.user_open + text : text + form_.user_open;
  std::vector<TokenId> tokens = half_->Beginning();
  const std::vector<TokenId> turn = half_->EncodePart(text + Said(user) + form_.user_close);
  // A template whose first marker stands before every text does not get it twice.
  const bool twice = std::ranges::mismatch(tokens, turn).in1 == tokens.end();
  tokens.insert(tokens.end(), turn.begin() + (twice ? std::ssize(tokens) : 0), turn.end());
  return tokens;
}

std::vector<TokenId> ChatTemplate::Head(const std::optional<std::string>& system) const {
  // Beginnings of a text that a tokenizer treats differently: what may merge with the template.
  static const std::vector<std::string> kProbes = {"a", " a",       "\n",           "\n\n a", "1",
                                                   ".", "\xc3\xa9", "\xe4\xb8\xad", "<",      "_"};
  std::vector<std::string> systems = kProbes;
  systems.emplace_back();
  if (system) systems = {*system};
  if (!has_system()) systems = {""};
  std::vector<TokenId> head = FirstTurn(systems[0], kProbes[0]);
  for (const std::string& text : systems)
    for (const std::string& user : kProbes) {
      const std::vector<TokenId> other = FirstTurn(text, user);
      head.erase(std::ranges::mismatch(head, other).in1, head.end());
    }
  return head;
}

// Encoded as it stands behind the answer's end, which the text has already or is given here.
std::vector<TokenId> ChatTemplate::NextTurn(std::string_view user, bool ended) const {
  const std::string turn = form_.between + form_.user_open + Said(user) + form_.user_close;
  if (form_.answer_end.empty()) return half_->EncodePart(turn);
  std::vector<TokenId> tokens = half_->EncodePart(form_.answer_end + turn);
  if (ended) tokens.erase(tokens.begin());
  return tokens;
}

}  // namespace polyveil::model
