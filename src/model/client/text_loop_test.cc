// The loop of generation, what is shown of it, and dialogues, on a made-up model of bytes.
#include "model/client/text_loop.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "model/client/chat_template.h"

namespace polyveil::model {
namespace {

// Bytes are tokens; markers are tokens from 256 on.
class MarkerCodec : public TextCodec {
 public:
  MarkerCodec(std::vector<std::string> markers, std::string chat_template)
      : markers_(std::move(markers)), chat_template_(std::move(chat_template)) {}
  std::vector<TokenId> Encode(std::string_view text) const override {
    std::vector<TokenId> out;
    while (!text.empty()) {
      const auto marker = std::ranges::find_if(
          markers_, [&](const std::string& each) { return text.starts_with(each); });
      const bool found = marker != markers_.end();
      out.push_back(found ? 256 + static_cast<TokenId>(marker - markers_.begin())
                          : static_cast<unsigned char>(text[0]));
      text.remove_prefix(found ? marker->size() : 1);
    }
    return out;
  }
  std::string Piece(TokenId token) const override {
    return token < 256 ? std::string(1, static_cast<char>(token)) : std::string();
  }
  int vocabulary() const override { return 256 + static_cast<int>(markers_.size()); }
  std::string ChatTemplate() const override { return chat_template_; }

 private:
  std::vector<std::string> markers_;
  std::string chat_template_;
};

// Widths and tables are of no interest here: one value a token.
std::shared_ptr<const ClientHalf> Half(std::vector<std::int32_t> prefix = {},
                                       std::vector<std::string> markers = {"<end>"},
                                       std::string chat_template = {}) {
  ClientConfig config;
  config.name = "bytes";
  config.width = 1;
  config.vocabulary = 300;
  config.context = 64;
  config.prefix = std::move(prefix);
  config.ends = {256};
  config.tensors[kEmbedName] = {ElementType::kF32, {300, 1}};
  ClientFiles files;
  files.Add(kEmbedName, std::string(4 * 300, '\0'));
  files.Add(kClientConfigName, FormatClientConfig(config));
  return ClientHalf::Create(std::move(files), std::make_unique<MarkerCodec>(
                                                  std::move(markers), std::move(chat_template)))
      .value();
}

// A model that writes `answer` whatever it reads, then end tokens; counts what it is fed.
class Writer {
 public:
  explicit Writer(const ClientHalf& half, std::string_view answer)
      : answer_(half.EncodePart(answer)) {}
  TextLoop::Feed Feed(std::size_t prompt) {
    return [this, prompt](std::span<const TokenId> text) -> Result<std::vector<double>> {
      fed.emplace_back(text.back());
      std::vector<double> logits(300, 0.0);
      const std::size_t at = text.size() < prompt ? answer_.size() : text.size() - prompt;
      logits[static_cast<std::size_t>(at < answer_.size() ? answer_[at] : 256)] = 5;
      return logits;
    };
  }
  std::vector<TokenId> fed;

 private:
  std::vector<TokenId> answer_;
};

struct Written {
  TextEnd end;
  std::string text;
  std::size_t fed;
};

Written Write(std::string_view answer, int new_tokens, const TextOptions& options, int context = 64,
              std::vector<std::int32_t> prefix = {}) {
  const auto half = Half(std::move(prefix));
  Writer writer(*half, answer);
  TextLoop loop(*half, context, options);
  const auto tokens = half->Encode("abc");
  std::string text;
  const auto end = loop.Continue(tokens, new_tokens, writer.Feed(tokens.size()),
                                 [&](const TextStep& step) { text += step.shown; });
  EXPECT_TRUE(end.ok());
  return {end.value(), text + loop.Finish(), writer.fed.size()};
}

TEST(TextLoop, EndsAtTokensEndTokenStopTextAndContext) {
  Written written = Write("hello world", 5, {});
  EXPECT_EQ(written.end, TextEnd::kTokens);
  EXPECT_EQ(written.text, "hello");
  EXPECT_EQ(written.fed, 7u);  // the last one is not fed
  written = Write("hello", 50, {});
  EXPECT_EQ(written.end, TextEnd::kEndToken);
  EXPECT_EQ(written.text, "hello");
  written = Write("hello world", 50, {.sampling = {}, .stops = {"xyz", "o w", "world"}});
  EXPECT_EQ(written.end, TextEnd::kStop);
  EXPECT_EQ(written.text, "hell");
  EXPECT_EQ(written.fed, 9u);
  written = Write("hello world", 50, {}, 6);
  EXPECT_EQ(written.end, TextEnd::kContext);
  EXPECT_EQ(written.text, "hell");
  EXPECT_EQ(written.fed, 6u);
}

TEST(TextLoop, ThePrefixIsNeverFed) {
  const Written written = Write("hello", 2, {}, 4, {9, 8});
  EXPECT_EQ(written.end, TextEnd::kTokens);
  EXPECT_EQ(written.text, "he");
  EXPECT_EQ(written.fed, 4u);
}

TEST(TextLoop, RefusesWhatDoesNotFitAndWhatIsNoNumber) {
  const auto half = Half();
  TextLoop loop(*half, 3, {});
  const auto nothing = [](const TextStep&) {};
  const TextLoop::Feed nan = [](auto) {
    return Result<std::vector<double>>(std::vector<double>(300, std::nan("")));
  };
  EXPECT_EQ(loop.Continue({}, 1, nan, nothing).error().code, ErrorCode::kOutOfRange);
  EXPECT_EQ(loop.Continue(half->Encode("a"), 1, nan, nothing).error().code,
            ErrorCode::kUntrustedResult);
  EXPECT_EQ(loop.Continue(half->Encode("abcd"), 1, nan, nothing).error().code,
            ErrorCode::kOutOfRange);
  EXPECT_FALSE(ValidateTextOptions({.sampling = {}, .stops = {"a", ""}}).ok());
  EXPECT_FALSE(ValidateTextOptions({.sampling = {}, .stops = {"\x80."}}).ok());
  EXPECT_FALSE(ValidateTextOptions({.sampling = {}, .stops = {"a\xf0\x9f"}}).ok());
}

TEST(TextOutput, HoldsBackWhatMayBecomeAStopText) {
  TextOutput output({"</s>", "\n\n"});
  EXPECT_EQ(output.Push("a<"), "a");
  EXPECT_EQ(output.Push("/"), "");
  EXPECT_EQ(output.Push("p"), "</p");
  EXPECT_EQ(output.Push("x\n"), "x");
  EXPECT_EQ(output.Push("y"), "\ny");
  EXPECT_EQ(output.Push("z</s>more"), "z");
  EXPECT_TRUE(output.stopped());
  EXPECT_EQ(output.Push("more"), "");
  EXPECT_EQ(output.Finish(), "");
  TextOutput open({"stop"});
  EXPECT_EQ(open.Push("a sto"), "a ");
  EXPECT_EQ(open.Finish(), "sto");
}

TEST(TextOutput, ShowsWholeCharactersOnly) {
  const std::string text = "na\xc3\xafve \xf0\x9f\x98\x80.";
  TextOutput output({"\xf0\x9f\x98\x81"});  // shares its first bytes
  std::string shown;
  for (const char byte : text) {
    const std::string piece = output.Push(std::string(1, byte));
    Utf8Stream whole;
    EXPECT_EQ(whole.Push(piece), piece);
    shown += piece;
  }
  EXPECT_EQ(shown + output.Finish(), text);
}

TEST(TextOutput, TheSameTextInAnyPieces) {
  std::mt19937_64 random(5);
  for (int round = 0; round < 3000; ++round) {
    std::string text;
    for (int i = 0; i < 12; ++i) text += "ab"[random() % 2];
    const std::vector<std::string> stops{"abba", "bbb", "aabaa"};
    TextOutput output(stops);
    std::string shown;
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t count = 1 + random() % 4;
      shown += output.Push(std::string_view(text).substr(at, count));
      at += count;
    }
    shown += output.Finish();
    std::size_t first = text.size();
    for (const std::string& stop : stops) first = std::min(first, text.find(stop));
    // Of two stop texts the one that is complete first counts; both begin at or behind `first`.
    EXPECT_TRUE(text.starts_with(shown)) << text;
    EXPECT_GE(shown.size(), first) << text;
    if (first == text.size()) {
      EXPECT_EQ(shown, text);
    }
  }
}

constexpr const char* kSmolLm2 =
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
constexpr const char* kLlama3 =
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] + "
    "'<|eot_id|>' }}";
constexpr const char* kZephyr =
    "{{ '<|user|>\\n' + message['content'] + eos_token }}{{ '<|assistant|>\\n' }}";
constexpr const char* kLlama2 = "{{ bos_token + '[INST] ' }}<<SYS>>\\n{{ ' [/INST]' }}";
constexpr const char* kMistral = "{{ bos_token }}{{ '[INST] ' + content + ' [/INST]' }}";

// Tokens as text, markers by their names.
std::string Spell(const std::vector<TokenId>& tokens, const std::vector<std::string>& markers) {
  std::string out;
  for (const TokenId token : tokens)
    out += token < 256 ? std::string(1, static_cast<char>(token))
                       : markers[static_cast<std::size_t>(token - 256)];
  return out;
}

TEST(ChatTemplate, WritesDialoguesOfEveryFamily) {
  struct Case {
    const char *name, *jinja;
    std::vector<std::string> markers;
    const char *first, *next;
  };
  const Case cases[] = {
      {"ChatML",
       kSmolLm2,
       {"<|im_start|>", "<|im_end|>"},
       "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nA<|im_end|>\n<|im_start|>assistant\n",
       "<|im_end|>\n<|im_start|>user\nB<|im_end|>\n<|im_start|>assistant\n"},
      {"Llama 3",
       kLlama3,
       {"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"},
       "<|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|><|start_header_id|>user"
       "<|end_header_id|>\n\nA<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
       "<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nB<|eot_id|><|start_header_id|>"
       "assistant<|end_header_id|>\n\n"},
      {"Zephyr",
       kZephyr,
       {"</s>"},
       "<|system|>\nS</s>\n<|user|>\nA</s>\n<|assistant|>\n",
       "</s>\n<|user|>\nB</s>\n<|assistant|>\n"},
      {"Llama 2",
       kLlama2,
       {"</s>", "<s>"},
       "[INST] <<SYS>>\nS\n<</SYS>>\n\nA [/INST]",
       "</s><s>[INST] B [/INST]"},
      {"Mistral", kMistral, {"</s>", "<s>"}, "[INST] A [/INST]", "</s>[INST] B [/INST]"},
      {"plain", "", {}, "A", "\nB"},
  };
  for (const Case& each : cases) {
    const auto half = Half({}, each.markers, each.jinja);
    const auto chat = ChatTemplate::For(*half);
    ASSERT_TRUE(chat.ok()) << each.name << ": " << chat.error().message;
    EXPECT_EQ(chat->name(), each.name);
    const char* system = chat->has_system() ? "S" : "";
    EXPECT_EQ(Spell(chat->FirstTurn(system, "A"), each.markers), each.first) << each.name;
    EXPECT_EQ(Spell(chat->NextTurn("B", false), each.markers), each.next) << each.name;
    const auto ended = chat->NextTurn("B", true);
    const bool marks = !each.markers.empty();
    EXPECT_EQ(ended.size() + (marks ? 1 : 0), chat->NextTurn("B", false).size()) << each.name;
    if (marks) {
      EXPECT_TRUE(chat->Ends(chat->NextTurn("B", false)[0]));
    }
  }
}

TEST(ChatTemplate, TrimsWhatIsSaidWhereTheTemplateDoes) {
  const std::vector<std::string> markers{"<|im_start|>", "<|im_end|>"};
  const auto first = [&](const std::string& jinja, const char* user) {
    return Spell(ChatTemplate::For(*Half({}, markers, jinja)).value().FirstTurn("", user), markers);
  };
  const std::string jinja = "{{ '<|im_start|>' + message['content']";
  const std::string close = "<|im_end|>\n<|im_start|>assistant\n", open = "<|im_start|>user\n";
  for (const char* trim : {" | trim", "|trim", ".strip()"}) {
    const std::string trims = jinja + trim + " + '<|im_end|>' }}";
    EXPECT_EQ(first(trims, " \t\n a b\r\n "), open + "a b" + close) << trim;
    EXPECT_EQ(first(trims, " \n"), open + close) << trim;
    EXPECT_EQ(first(trims, ""), open + close) << trim;
  }
  EXPECT_EQ(first(jinja + " + '<|im_end|>' }}", " a\n"), open + " a\n" + close);
}

// What the user says changes nothing of it, nor does its length depend on it.
TEST(ChatTemplate, TheHeadIsWhatEveryFirstTurnBeginsWith) {
  const std::vector<std::string> markers{"<|im_start|>", "<|im_end|>"};
  const auto half = Half({256}, markers, kSmolLm2);
  const auto chat = ChatTemplate::For(*half).value();
  const std::string own = chat.default_system();
  // The marker that stands before every text is the template's first.
  EXPECT_EQ(Spell(chat.Head(own), markers),
            "<|im_start|>system\n" + own + "<|im_end|>\n<|im_start|>user\n");
  EXPECT_EQ(Spell(chat.FirstTurn("", "A"), markers),
            "<|im_start|>user\nA<|im_end|>\n<|im_start|>assistant\n");
  EXPECT_EQ(Spell(chat.Head(std::nullopt), markers), "<|im_start|>");  // or no system text at all
  for (const char* user : {"A", " ", "\n\n", "<|im_end|>", ""}) {
    const auto turn = chat.FirstTurn(own, user), head = chat.Head(own);
    ASSERT_GE(turn.size(), head.size());
    EXPECT_TRUE(std::equal(head.begin(), head.end(), turn.begin())) << user;
  }
  const auto plain = Half({}, {}, "");
  EXPECT_TRUE(ChatTemplate::For(*plain).value().Head("").empty());
}

TEST(TextLoop, GoesOnBehindTokensThatWereFedElsewhere) {
  const auto half = Half({5});
  TextLoop loop(*half, 8, {});
  const std::vector<TokenId> known = {5, 'a', 'b'}, more = {'c'};
  loop.Preload(known);
  EXPECT_EQ(loop.fed(), 2);
  EXPECT_EQ(loop.room(), 6);
  std::vector<std::size_t> fed;
  const auto feed = [&](std::span<const TokenId> text) -> Result<std::vector<double>> {
    fed.push_back(text.size());
    std::vector<double> logits(300);
    logits['d'] = 1;
    return logits;
  };
  const auto end = loop.Continue(more, 2, feed, [](const TextStep&) {});
  ASSERT_TRUE(end.ok()) << end.error().message;
  EXPECT_EQ(fed, (std::vector<std::size_t>{4, 5}));
  EXPECT_EQ(loop.text(), (std::vector<TokenId>{5, 'a', 'b', 'c', 'd', 'd'}));
}

TEST(ChatTemplate, FindsTheTemplatesOwnSystemText) {
  const std::vector<std::string> markers{"<|im_start|>", "<|im_end|>"};
  const auto of = [&](const std::string& jinja) {
    return ChatTemplate::For(*Half({}, markers, jinja)).value().default_system();
  };
  EXPECT_EQ(of(kSmolLm2), "You are a helpful AI assistant named SmolLM");
  EXPECT_EQ(
      of("{{- '<|im_start|>system\\n' + x }}{{- '<|im_start|>system\\nYou are Q.<|im_end|>' }}"),
      "You are Q.");
  EXPECT_EQ(of("{{'<|im_start|>' + message['role'] + '<|im_end|>'}}"), "");
}

TEST(ChatTemplate, RefusesOthersWithTheReason) {
  const auto message = [](const char* jinja, std::vector<std::string> markers) {
    const auto chat = ChatTemplate::For(*Half({}, std::move(markers), jinja));
    return chat.ok() ? "accepted as " + chat->name() : chat.error().message;
  };
  EXPECT_NE(message("{{ '### Human: ' + content }}", {}).find("none of the known"),
            std::string::npos);
  EXPECT_NE(message("<|user|>x<|assistant|><|end|>", {}).find("none of"), std::string::npos);
  EXPECT_NE(message("<|im_start|><|im_end|>[INST][/INST]", {}).find("several of"),
            std::string::npos);
  EXPECT_NE(message(kSmolLm2, {"<|im_start|>"}).find("needs \"<|im_end|>\""), std::string::npos);
}

}  // namespace
}  // namespace polyveil::model
