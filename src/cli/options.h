// What a command says of its options. The option parser behind it is known to options.cpp alone.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace cw::cli {

/// An option that was added, to say more of it.
class Option {
 public:
  explicit Option(CLI::Option* option) : option_(option) {}

  /// What stands for its value in the help: "DIR".
  Option& meta(const std::string& name);
  Option& required();
  /// The default as the help shows it: of its variable, or in other words.
  Option& shows_default();
  Option& shows(const std::string& text);
  /// Numbers, or sizes in bytes, that are allowed.
  Option& range(double low, double high);
  Option& positive();
  Option& not_negative();
  /// Several values in one word, with this between them.
  Option& delimiter(char separator);
  /// Not together with that one, which was added before.
  Option& excludes(const std::string& name);
  /// What is wrong with a value; empty when nothing is.
  Option& checked(std::function<std::string(const std::string&)> check);

 private:
  CLI::Option* option_;
};

/// The options of one command. Variables must live until the command has run.
class Options {
 public:
  explicit Options(CLI::App& app) : app_(app) {}

  /// `names` as in "-q,--quiet"; with "!" in front it switches off.
  Option flag(const std::string& names, bool& target, const std::string& help);

  /// Numbers, texts, paths, optional ones, and lists of these. A name without dashes is a
  /// positional.
  template <typename Value>
  Option value(const std::string& names, Value& target, const std::string& help);

  /// A number of bytes: 4096, 10GB, 1GiB.
  Option size(const std::string& names, std::uint64_t& target, const std::string& help);

  /// One of some words, each of which stands for a value.
  template <typename Value>
  Option choice(const std::string& names, Value& target,
                std::initializer_list<std::pair<const char*, Value>> choices,
                const std::string& help) {
    std::vector<std::string> words;
    std::vector<Value> values;
    for (const auto& [word, value] : choices) {
      words.emplace_back(word);
      values.push_back(value);
    }
    return choice_of(
        names, std::move(words), [&target, values](std::size_t index) { target = values[index]; },
        help);
  }

  /// A text that `take` makes something of; what it returns is what is wrong with it, or empty.
  Option parsed(const std::string& names, std::function<std::string(const std::string&)> take,
                const std::string& help);
  /// The same for an option that may be given several times.
  Option parsed_each(const std::string& names, std::function<std::string(const std::string&)> take,
                     const std::string& help);

  /// An option that is only shown: somebody else takes it before options are parsed.
  Option shown(const std::string& names, const std::string& help);

  /// What the help ends with.
  void footer(const std::string& text);
  /// Given again, an option has its last value, instead of being an error.
  void let_last_win() { lets_last_win_ = true; }
  bool lets_last_win() const { return lets_last_win_; }

 private:
  Option choice_of(const std::string& names, std::vector<std::string> words,
                   std::function<void(std::size_t)> take, const std::string& help);

  CLI::App& app_;
  bool lets_last_win_ = false;
};

// ---- What the help, manual pages and completions are made of

struct OptionView {
  std::vector<std::string> names;    ///< with their dashes; none of a positional
  std::string value;                 ///< "DIR", "all|diverse"; empty of a flag
  std::string description, initial;  ///< in one line; the default
  bool takes_several = false;
};

struct CommandView {
  std::string name, description, footer;
  std::vector<OptionView> options;
};

struct ProgramView {
  CommandView program;
  std::vector<CommandView> commands;
};

// ---- The parser

class Command;

struct ParserSettings {
  std::string name, version, description, footer;
};

/// How parsing ended.
struct Parsed {
  Command* command = nullptr;  ///< to be run; null: `out` or `err` is all there is to say
  std::string out, err;
  bool is_wrong = false;  ///< the words are, as `err` says
};

class Parser {
 public:
  explicit Parser(const ParserSettings& settings);
  ~Parser();

  /// A command's options are those that it declares, and then those that `add_common` adds.
  void add(Command& command, const std::function<void(Command&, Options&)>& add_common);
  /// All that was added.
  ProgramView view() const;
  Parsed parse(std::vector<std::string> words);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace cw::cli
