#include "cli/options.h"

#include <algorithm>
#include <sstream>

#include <CLI/CLI.hpp>
#include <fmt/ranges.h>

#include "cli/command.h"

namespace cw::cli {
namespace {

constexpr std::size_t name_columns = 32;  // of the help

// Validators describe themselves in the help, at length; the names of values say enough.
CLI::Validator silent(CLI::Validator validator) {
  return validator.description("");
}

std::string in_one_line(std::string text) {
  std::ranges::replace(text, '\n', ' ');
  return text;
}

OptionView view_of(const CLI::Option& option) {
  OptionView view{.names = {},
                  .value = option.get_type_name(),
                  .description = in_one_line(option.get_description()),
                  .initial = option.get_default_str()};
  for (const std::string& name : option.get_snames()) view.names.push_back("-" + name);
  for (const std::string& name : option.get_lnames()) view.names.push_back("--" + name);
  if (view.names.empty() && view.value.empty()) view.value = option.get_name();
  if (option.get_items_expected_max() == 0) view.value.clear();
  view.takes_several = option.get_items_expected_max() > 1;
  return view;
}

CommandView view_of(const CLI::App& app) {
  CommandView view{app.get_name(), in_one_line(app.get_description()), app.get_footer(), {}};
  for (const CLI::Option* option : app.get_options()) view.options.push_back(view_of(*option));
  return view;
}

}  // namespace

Option& Option::meta(const std::string& name) {
  option_->type_name(name);
  return *this;
}

Option& Option::required() {
  option_->required();
  return *this;
}

Option& Option::shows_default() {
  option_->capture_default_str();
  return *this;
}

Option& Option::shows(const std::string& text) {
  option_->default_str(text);
  return *this;
}

Option& Option::range(double low, double high) {
  option_->check(
      silent(CLI::Range(static_cast<std::int64_t>(low), static_cast<std::int64_t>(high))));
  return *this;
}

Option& Option::positive() {
  option_->check(silent(CLI::PositiveNumber));
  return *this;
}

Option& Option::not_negative() {
  option_->check(silent(CLI::NonNegativeNumber));
  return *this;
}

Option& Option::delimiter(char separator) {
  option_->delimiter(separator);
  return *this;
}

Option& Option::excludes(const std::string& name) {
  option_->excludes(name);
  return *this;
}

Option& Option::checked(std::function<std::string(const std::string&)> check) {
  option_->check(silent(
      CLI::Validator([check = std::move(check)](std::string& text) { return check(text); }, "")));
  return *this;
}

Option Options::flag(const std::string& names, bool& target, const std::string& help) {
  return Option(app_.add_flag(names, target, help));
}

template <typename Value>
Option Options::value(const std::string& names, Value& target, const std::string& help) {
  return Option(app_.add_option(names, target, help));
}

template Option Options::value(const std::string&, std::string&, const std::string&);
template Option Options::value(const std::string&, std::filesystem::path&, const std::string&);
template Option Options::value(const std::string&, int&, const std::string&);
template Option Options::value(const std::string&, std::int64_t&, const std::string&);
template Option Options::value(const std::string&, std::size_t&, const std::string&);
template Option Options::value(const std::string&, double&, const std::string&);
template Option Options::value(const std::string&, std::optional<std::size_t>&, const std::string&);
template Option Options::value(const std::string&, std::optional<std::int64_t>&,
                               const std::string&);
template Option Options::value(const std::string&, std::optional<int>&, const std::string&);
template Option Options::value(const std::string&, std::optional<double>&, const std::string&);
template Option Options::value(const std::string&, std::vector<std::string>&, const std::string&);
template Option Options::value(const std::string&, std::vector<std::filesystem::path>&,
                               const std::string&);
template Option Options::value(const std::string&, std::vector<std::size_t>&, const std::string&);

Option Options::size(const std::string& names, std::uint64_t& target, const std::string& help) {
  return Option(app_.add_option(names, target, help)->transform(silent(CLI::AsSizeValue(true))));
}

Option Options::choice_of(const std::string& names, std::vector<std::string> words,
                          std::function<void(std::size_t)> take, const std::string& help) {
  const auto check = [words](const std::string& text) -> std::string {
    if (std::ranges::find(words, text) != words.end()) return {};
    std::vector<std::string> sorted = words;
    std::ranges::sort(sorted);
    return fmt::format("'{}' is not one of {}", text, fmt::join(sorted, ", "));
  };
  CLI::Option* option = app_.add_option_function<std::string>(
      names,
      [words, take = std::move(take)](const std::string& text) {
        take(static_cast<std::size_t>(std::ranges::find(words, text) - words.begin()));
      },
      help);
  option->type_name(fmt::format("{}", fmt::join(words, "|")));
  return Option(option).checked(check);
}

Option Options::parsed(const std::string& names,
                       std::function<std::string(const std::string&)> take,
                       const std::string& help) {
  const std::string name = names.substr(names.find("--"));
  return Option(app_.add_option_function<std::string>(
      names,
      [name, take = std::move(take)](const std::string& text) {
        if (const std::string wrong = take(text); !wrong.empty())
          throw CLI::ValidationError(name, wrong);
      },
      help));
}

Option Options::parsed_each(const std::string& names,
                            std::function<std::string(const std::string&)> take,
                            const std::string& help) {
  const std::string name = names.substr(names.find("--"));
  return Option(app_.add_option_function<std::vector<std::string>>(
      names,
      [name, take = std::move(take)](const std::vector<std::string>& texts) {
        for (const std::string& text : texts)
          if (const std::string wrong = take(text); !wrong.empty())
            throw CLI::ValidationError(name, wrong);
      },
      help));
}

Option Options::shown(const std::string& names, const std::string& help) {
  return Option(app_.add_option(names, help));
}

void Options::footer(const std::string& text) {
  app_.footer(text);
}

// ---- The parser

struct Parser::State {
  explicit State(const ParserSettings& settings) : app(settings.description, settings.name) {
    app.footer(settings.footer);
    app.set_version_flag("--version", settings.version);
    app.require_subcommand(1);
    app.get_formatter()->column_width(name_columns);
  }

  CLI::App app;
  std::vector<std::pair<CLI::App*, Command*>> commands;
};

Parser::Parser(const ParserSettings& settings) : state_(std::make_unique<State>(settings)) {}
Parser::~Parser() = default;

void Parser::add(Command& command, const std::function<void(Command&, Options&)>& add_common) {
  CLI::App* const app = state_->app.add_subcommand(command.name(), command.description());
  Options options(*app);
  command.declare(options);
  add_common(command, options);
  if (options.lets_last_win())
    for (CLI::Option* option : app->get_options())
      if (option->get_items_expected_max() == 1)
        option->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  state_->commands.emplace_back(app, &command);
}

ProgramView Parser::view() const {
  ProgramView view{view_of(state_->app), {}};
  for (const auto& [app, command] : state_->commands) view.commands.push_back(view_of(*app));
  return view;
}

Parsed Parser::parse(std::vector<std::string> words) {
  Parsed parsed;
  try {
    std::ranges::reverse(words);
    state_->app.parse(std::move(words));
    for (const auto& [app, command] : state_->commands)
      if (app->parsed()) parsed.command = command;
    if (parsed.command != nullptr)
      if (const std::string missing = parsed.command->missing(); !missing.empty())
        throw CLI::RequiredError(missing);
  } catch (const CLI::ParseError& error) {
    parsed.command = nullptr;
    std::ostringstream out, err;
    parsed.is_wrong = state_->app.exit(error, out, err) != 0;
    parsed.out = out.str();
    parsed.err = err.str();
  }
  return parsed;
}

}  // namespace cw::cli
