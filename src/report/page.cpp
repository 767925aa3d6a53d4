#include "report/page.h"

#include <algorithm>
#include <map>
#include <set>

#include <kainjow/mustache.hpp>

#include "base/console.h"
#include "report/built_in_page.h"
#include "report/charts.h"
#include "report/markdown.h"

namespace cw {
namespace {

using Data = kainjow::mustache::data;

constexpr std::size_t max_failures = 20;

Data list() {
  return Data(Data::type::list);
}

Data row(const std::string& name, const std::string& value) {
  Data item;
  item.set("name", name);
  item.set("value", value);
  return item;
}

std::string grouped(std::int64_t number) {
  return number < 0 ? std::to_string(number) : with_separators(static_cast<std::uint64_t>(number));
}

std::string percent(double share) {
  return fmt::format("{:.2f}", std::max(share * 100, 0.0));
}

std::string bytes(double count) {
  return count >= 1e9 ? fmt::format("{:.2f} GB", count / 1e9)
                      : fmt::format("{:.1f} MB", count / 1e6);
}

// The two most telling axes: the number of sequences, and of KV tokens.
struct Plane {
  std::size_t x = 0, y = 0;
  std::string x_name, y_name;
  std::int64_t x_less = 0;  // len_indptr is one more than the batch size
  bool has_y = false;
};

Plane plane_of(const std::vector<std::string>& axes) {
  Plane plane;

  const auto place = [&axes](std::string_view name) {
    return static_cast<std::size_t>(std::ranges::find(axes, name) - axes.begin());
  };

  // x is the batch size, in whichever form the definition has it.
  if (place("batch_size") < axes.size()) {
    plane.x = place("batch_size");
  } else if (place("len_indptr") < axes.size()) {
    plane.x = place("len_indptr");
    plane.x_less = 1;
  }
  plane.x_name = plane.x_less == 1 ? "batch size (len_indptr − 1)" : axes[plane.x];

  // y is the most telling of the other axes.
  std::size_t best_rank = 0;
  for (std::size_t i = 0; i < axes.size(); ++i) {
    if (i == plane.x) continue;
    const std::string& name = axes[i];
    // Page pools are as large as the engine made them; len_indptr is just the batch size again.
    const bool is_dull = name == "num_pages" || name == "len_indptr";
    const std::size_t rank = is_dull ? 1 : name.find("kv") != std::string::npos ? 3 : 2;
    if (rank <= best_rank) continue;
    best_rank = rank;
    plane.y = i;
    plane.has_y = true;
    plane.y_name = name;
  }
  return plane;
}

std::string spread(const DefinitionSummary& definition) {
  const Plane plane = plane_of(definition.var_axes);
  std::vector<ScatterPoint> points;
  for (const WorkloadSummary& workload : definition.workloads) {
    const std::int64_t y =
        plane.has_y ? workload.axes[plane.y] : static_cast<std::int64_t>(workload.stands_for);
    points.push_back(
        {workload.axes[plane.x] - plane.x_less, y, workload.stands_for, workload.is_new});
  }
  const auto is_first = [&points](const ScatterPoint& point) {
    return point.x == points[0].x && point.y == points[0].y;
  };
  if (std::ranges::all_of(points, is_first)) return "";  // the table says so
  return scatter_chart(plane.x_name, plane.has_y ? plane.y_name : "calls", points);
}

std::string lengths(const LengthHistogram& histogram) {
  std::vector<std::pair<std::string, std::uint64_t>> bars;
  if (histogram.empty > 0) bars.emplace_back("0", histogram.empty);
  for (std::size_t i = 0; i < histogram.buckets.size(); ++i) {
    const std::uint64_t from = std::uint64_t{1} << i;
    const std::string first = with_separators(from);
    bars.emplace_back(
        i == 0 ? first : fmt::format("{} to {}", first, with_separators(2 * from - 1)),
        histogram.buckets[i]);
  }
  return bar_chart("sequences by length, from " + histogram.input, bars);
}

Data axes(const DefinitionSummary& definition) {
  Data rows = list();
  for (std::size_t i = 0; i < definition.var_axes.size(); ++i) {
    const AxisSpread spread = spread_of(definition, i);
    Data item;
    item.set("name", definition.var_axes[i]);
    const auto shown = [](const AxisSpread::Range& extents) {
      return extents.first == extents.second
                 ? grouped(extents.first)
                 : grouped(extents.first) + "–" + grouped(extents.second);
    };
    item.set("least", shown(spread.min));
    item.set("median", shown(spread.median));
    item.set("most", shown(spread.max));
    rows.push_back(item);
  }
  return rows;
}

// Over all calls, for the most telling axes.
Data distributions(const DefinitionSummary& definition) {
  constexpr std::size_t max_bars = 64;
  Data charts = list();
  const Distribution& distribution = definition.distribution;
  if (definition.var_axes.empty() || distribution.var_axes != definition.var_axes) return charts;
  const Plane plane = plane_of(definition.var_axes);
  std::vector<std::size_t> shown = {plane.x};
  if (plane.has_y) shown.push_back(plane.y);
  for (const std::size_t axis : shown) {
    const auto bars = parts_of(distribution.of_axes[axis], max_bars);
    // If all are the same, the table says so.
    if (bars.size() > 1)
      charts.push_back(Data(bar_chart("calls by " + definition.var_axes[axis], bars)));
  }
  return charts;
}

std::string verified(const DefinitionSummary& definition) {
  if (!definition.verification) return "no";
  const DefinitionVerification& verification = *definition.verification;
  if (!verification.failures.empty())
    return fmt::format("{} failed", with_separators(verification.failures.size()));
  if (!verification.is_passed()) return "in part";
  return verification.reference == Reference::ran ? "runs" : "loads";
}

// How many calls each workload stands for; if all stand for the same number, there is nothing to
// draw.
std::string frequency(const DefinitionSummary& definition) {
  std::vector<std::uint64_t> stand_for;
  std::set<std::uint64_t> distinct;
  for (const WorkloadSummary& workload : definition.workloads)
    distinct.insert(stand_for.emplace_back(workload.stands_for));
  return distinct.size() > 1 ? rank_chart(std::move(stand_for)) : "";
}

// From all calls down to the workloads kept.
std::string funnel(const DefinitionSummary& definition, bool is_compared) {
  std::vector<std::pair<std::string, std::uint64_t>> amounts;
  if (definition.calls > 0)
    amounts = {{"calls", definition.calls}, {"distinct", definition.distinct}};
  amounts.emplace_back("kept", definition.workloads.size());
  if (is_compared) amounts.emplace_back("new", definition.added);
  return funnel_chart(amounts);
}

// Inputs with the same lengths share a chart.
Data length_charts(const std::vector<LengthHistogram>& all) {
  std::vector<LengthHistogram> different;
  for (const LengthHistogram& histogram : all) {
    const auto like = std::ranges::find_if(different, [&](const LengthHistogram& other) {
      return other.buckets == histogram.buckets && other.empty == histogram.empty &&
             other.max_length == histogram.max_length;
    });
    if (like == different.end())
      different.push_back(histogram);
    else
      like->input += ", " + histogram.input;
  }

  Data charts = list();
  for (const LengthHistogram& histogram : different) charts.push_back(Data(lengths(histogram)));
  return charts;
}

Data derived_scalars(const DefinitionSummary& definition) {
  Data rows = list();
  for (const auto& [input, calls] : definition.derived_calls) {
    const auto because = definition.derived_because.find(input);
    rows.push_back(row(fmt::format("{} of {} calls", input, with_separators(calls)),
                       because == definition.derived_because.end() ? "" : because->second));
  }
  return rows;
}

Data first_failures(const DefinitionSummary& definition) {
  Data rows = list();
  if (!definition.verification) return rows;
  for (const VerificationFailure& failure : definition.verification->failures) {
    if (rows.list_value().size() == max_failures) break;
    rows.push_back(row(failure.workload + " (" + failure.stage + ")", failure.message));
  }
  return rows;
}

// What the other dataset has of it.
std::string there(const DefinitionSummary& definition) {
  switch (definition.state) {
    case DefinitionState::missing:
      return "new definition";
    case DefinitionState::differs:
      return "differs there";
    case DefinitionState::same:
      return with_separators(definition.others);
  }
  return "";
}

Data to_data(const DefinitionSummary& definition, bool is_compared) {
  Data data;
  data.set("name", definition.name);
  data.set("op_type", definition.op_type);
  data.set("models", fmt::format("{}", fmt::join(definition.models, ", ")));
  data.set("has_models", !definition.models.empty());

  // The numbers of the table.
  data.set("kept", with_separators(definition.workloads.size()));
  data.set("new", with_separators(definition.added));
  data.set("there", there(definition));
  data.set("calls", with_separators(definition.calls));
  data.set("verified", verified(definition));
  data.set("axes", axes(definition));

  // The charts.
  data.set("distributions", distributions(definition));
  data.set("spread", definition.var_axes.empty() ? "" : spread(definition));
  data.set("frequency", frequency(definition));
  data.set("funnel", funnel(definition, is_compared));
  data.set("lengths", length_charts(definition.lengths));

  // Notes on them.
  data.set("derived", derived_scalars(definition));
  data.set("has_derived", !definition.derived_calls.empty());
  const Data failures = first_failures(definition);
  data.set("failures", failures);
  data.set("has_failures", !failures.list_value().empty());
  return data;
}

Data timeline(const TimelineRecord& record) {
  const auto points = [&record](auto value) {
    std::vector<std::pair<double, double>> result;
    for (const TimelineSample& sample : record.samples)
      result.emplace_back(sample.seconds, static_cast<double>(value(sample)));
    return result;
  };
  const auto requests = points([](const TimelineSample& sample) { return sample.requests; });
  const auto under_way = points([](const TimelineSample& sample) { return sample.under_way; });
  const auto tokens = points([](const TimelineSample& sample) { return sample.output_tokens; });
  const auto calls = points([](const TimelineSample& sample) { return sample.calls; });
  const auto megabytes = points(
      [](const TimelineSample& sample) { return static_cast<double>(sample.disk_bytes) / 1e6; });

  Data charts = list();
  for (const std::string& chart :
       {line_chart("requests done", "", requests), line_chart("under way", "", under_way),
        line_chart("output tokens", "", tokens), line_chart("calls captured", "", calls),
        line_chart("dumps on disk (sampled)", " MB", megabytes)})
    if (!chart.empty()) charts.push_back(Data(chart));
  return charts;
}

// How the capture was made, as far as that is known.
Data details(const CaptureSummary& capture) {
  Data rows = list();
  const auto add = [&rows](const char* name, const std::string& value) {
    if (!value.empty()) rows.push_back(row(name, value));
  };

  const SectionRecord& section = capture.section;
  const RunRecord run = section.run.value_or(RunRecord());
  add("engine", run.version);
  add("model", run.model);
  if (run.tensor_parallel > 0) add("tensor parallelism", std::to_string(run.tensor_parallel));
  add("started (UTC)", run.started);
  add("prompts", run.prompts);
  add("FlashInfer", fmt::format("{}", fmt::join(section.flashinfer_versions, ", ")));

  // The traffic sent to it.
  if (run.traffic.is_object()) {
    const auto traffic = TrafficRecord::from_json(run.traffic);
    add("traffic",
        fmt::format("{:.0f} of {:.0f} requests completed in {:.1f} s; {:.0f} input and {:.0f} "
                    "output tokens",
                    traffic.completed, traffic.sent, traffic.seconds, traffic.input_tokens,
                    traffic.output_tokens));
  }

  if (run.ready_seconds) add("ready after", fmt::format("{:.1f} s", *run.ready_seconds));
  if (run.peak_disk)
    add("disk", fmt::format("at most {} of {}", bytes(static_cast<double>(*run.peak_disk)),
                            bytes(static_cast<double>(run.disk_budget))));
  add("ended early", run.failure);
  add("capture", fmt::format("{}, {} calls", section.source, with_separators(section.calls)));
  return rows;
}

Data to_data(const CaptureSummary& capture) {
  Data data;
  const SectionRecord& section = capture.section;
  const std::string title = describe_capture(capture);
  data.set("title", title.empty() ? section.id : title);
  data.set("is_simulated", section.is_simulated);
  data.set("rows", details(capture));
  const std::string command = engine_command(capture);
  data.set("command", command);
  data.set("has_command", !command.empty());
  const Data charts = timeline(section.run ? section.run->timeline : TimelineRecord());
  data.set("has_timeline", !charts.list_value().empty());
  data.set("timeline", charts);

  Data functions = list();
  for (const auto& [name, counts] : section.functions) {
    Data item;
    item.set("name", name);
    item.set("calls", with_separators(counts.calls));
    item.set("bound", with_separators(counts.bound));
    item.set("sampled", with_separators(counts.sampled));
    item.set("rejected", with_separators(counts.rejected));
    item.set("skipped", with_separators(counts.skipped));
    functions.push_back(item);
  }
  data.set("functions", functions);
  data.set("has_functions", !section.functions.empty());
  return data;
}

Data defects(const Summary& summary) {
  std::map<std::tuple<std::string, std::string, std::string>, DefectRecord> joined;
  for (const CaptureSummary& capture : summary.captures)
    for (const DefectRecord& defect : capture.section.defects) {
      DefectRecord& all = joined[{defect.name, defect.function, defect.detail}];
      const std::uint64_t sum = all.count + defect.count;
      all = defect;
      all.count = sum;
    }

  // The most frequent first, with bars relative to it.
  std::vector<const DefectRecord*> sorted;
  std::uint64_t max = 1;
  for (const auto& [key, defect] : joined) {
    sorted.push_back(&defect);
    max = std::max(max, defect.count);
  }
  std::ranges::stable_sort(sorted,
                           [](const auto* a, const auto* b) { return a->count > b->count; });

  Data rows = list();
  for (const DefectRecord* defect : sorted) {
    Data item;
    item.set("name", defect->name);
    item.set("severity", defect->severity);
    item.set("function", defect->function);
    item.set("detail", defect->detail);
    item.set("example", defect->example);
    item.set("has_example", !defect->example.empty());
    item.set("count", with_separators(defect->count));
    item.set("share", percent(static_cast<double>(defect->count) / static_cast<double>(max)));
    rows.push_back(item);
  }
  return rows;
}

// The verification in words, and whether it is good.
std::pair<std::string, bool> verified_in_words(const Summary& summary) {
  std::size_t passed = 0, known = 0, failures = 0;
  for (const DefinitionSummary& definition : summary.definitions) {
    if (!definition.verification) continue;
    ++known;
    passed += definition.verification->is_passed();
    failures += definition.verification->failures.size();
  }
  if (known == 0)
    return {"Not verified: collect-workloads verify loads and runs every workload.", true};
  const std::string device = summary.devices();
  if (passed == summary.definitions.size()) return {"Verified on " + device + ".", true};
  std::string text = fmt::format("{} of {} definitions are verified as they are now", passed,
                                 summary.definitions.size());
  if (failures > 0) text += fmt::format("; {} workloads failed", with_separators(failures));

  return {text + fmt::format(" (on {}).", device), failures == 0};
}

}  // namespace

std::string to_html(const Summary& summary, const std::string& title) {
  Data data, tiles = list(), captures = list(), definitions = list();
  std::uint64_t calls = 0, all_calls = 0;
  for (const DefinitionSummary& definition : summary.definitions) {
    definitions.push_back(to_data(definition, summary.is_compared));
    calls += definition.calls;
  }
  for (const CaptureSummary& capture : summary.captures) {
    captures.push_back(to_data(capture));
    all_calls += capture.section.calls;
  }

  tiles.push_back(row("definitions", with_separators(summary.definitions.size())));
  tiles.push_back(row("workloads", with_separators(summary.workloads())));
  if (summary.is_compared) tiles.push_back(row("new", with_separators(summary.added())));
  tiles.push_back(row("calls captured", with_separators(all_calls)));
  tiles.push_back(row("calls bound", with_separators(calls)));

  data.set("title", title);
  data.set("tiles", tiles);
  data.set("is_compared", summary.is_compared);
  data.set("captures", captures);
  data.set("has_captures", !summary.captures.empty());
  data.set("definitions", definitions);
  const Data rejected = defects(summary);
  data.set("has_defects", !rejected.list_value().empty());
  data.set("defects", rejected);

  const auto [verified, is_good] = verified_in_words(summary);
  data.set("verified", verified);
  data.set("verified_class", is_good ? "soft" : "alarm");
  data.set("has_simulated", std::ranges::any_of(summary.captures, [](const auto& c) {
             return c.section.is_simulated;
           }));

  data.set("has_replay", summary.replay.has_value());
  if (const auto& replay = summary.replay)
    data.set(
        "replay",
        fmt::format(
            "{} of {} recorded calls passed, {} of them with outputs to compare; {} failed, {} "
            "could not be run again{}",
            with_separators(replay->passed), with_separators(replay->dumps),
            with_separators(replay->compared), with_separators(replay->failed),
            with_separators(replay->skipped),
            replay->undecided == 0 ? ""
                                   : fmt::format(", {} are of a kind that replay cannot compare",
                                                 with_separators(replay->undecided))));

  data.set("version", CW_VERSION);
  kainjow::mustache::mustache page{std::string(built_in_page())};
  return page.render(data);
}

}  // namespace cw
