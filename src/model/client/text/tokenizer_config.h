// tokenizer_config.json: what transformers changes about a tokenizer.json when it loads it.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model/client/text/text_tokenizer.h"

namespace polyveil::model {

struct TokenizerConfig {
  std::string kind;  // tokenizer_class without "Fast", or the one that the family has
  std::optional<bool> add_bos, add_eos, add_prefix_space, lowercase, strip_accents, chinese;
  std::string bos_token, eos_token;   // empty: none
  std::vector<AddedToken> added;      // added_tokens_decoder
  std::vector<std::string> specials;  // of every role
};

// family: the model's, names the class where the file does not; may be empty. Every field is used,
// known not to change the ids, or refused. Errors: kCorrupt, kMismatch; the field named.
Result<TokenizerConfig> ParseTokenizerConfig(std::string_view json, std::string_view family);

// Some classes set parts of the file anew: the letters' case and the first space. Errors: kMismatch
// where the two files disagree and the class says nothing.
Status ApplyToFile(const TokenizerConfig& config, JsonReader::Json& tokenizer);

// The added tokens and the tokens around a text. id_of: of a token of the vocabulary. Errors:
// kMismatch for an added token with another id, kNotFound for an end that is no token.
Status ApplyToParts(const TokenizerConfig& config,
                    const std::function<std::optional<TokenId>(const std::string&)>& id_of,
                    TokenizerParts& parts);

// One entry of added_tokens or added_tokens_decoder, without its id.
Result<AddedToken> ReadAddedToken(const JsonReader::Json& json);

}  // namespace polyveil::model
