#include "bind/association.h"

#include <gtest/gtest.h>

namespace cw {
namespace {

constexpr std::uint64_t a = 0xa, b = 0xb;

class AssociationTest : public ::testing::Test {
 protected:
  AssociationTest()
      : bindings_(*BindingSet::parse(std::string(built_in_bindings()))), association_(bindings_) {}

  std::shared_ptr<Call> call(const std::string& function, std::uint64_t self,
                             CallStatus status = CallStatus::completed) {
    auto made = std::make_shared<Call>();
    CallContent content{.function = function};
    content.signature = std::make_shared<const Signature>();
    made->content = share(std::move(content));
    made->status = status;
    made->wrapper = {0, 1, self};
    made->order = next_++;
    return made;
  }
  std::shared_ptr<Call> plan(std::uint64_t self, CallStatus status = CallStatus::completed) {
    return call("BatchDecodeWithPagedKVCacheWrapper.plan", self, status);
  }

  std::shared_ptr<const Call> add(const std::shared_ptr<const Call>& made) {
    association_.add(made, ready_);
    return made;
  }
  // The plan a run gets.
  CallInContext run(std::uint64_t self) {
    ready_.clear();
    add(call("BatchDecodeWithPagedKVCacheWrapper.run", self));
    return ready_.at(0);
  }

  BindingSet bindings_;
  Association association_;
  std::vector<CallInContext> ready_;
  std::size_t next_ = 0;
};

TEST_F(AssociationTest, ARunBelongsToItsOwnWrappersLastPlan) {
  const auto first = add(plan(a)), second = add(plan(b));
  EXPECT_EQ(run(a).plan, first);
  EXPECT_EQ(run(b).plan, second);
  const auto third = add(plan(a));
  EXPECT_EQ(run(a).plan, third);
  EXPECT_EQ(run(b).plan, second);
}

TEST_F(AssociationTest, WithoutAPlanThereIsNone) {
  add(plan(a));
  EXPECT_EQ(run(b).plan, nullptr);
  EXPECT_FALSE(run(b).has_plan_in_doubt);
}

TEST_F(AssociationTest, EqualWrappersOfOtherProcessesAreOthers) {
  add(plan(a));
  auto other = call("BatchDecodeWithPagedKVCacheWrapper.run", a);
  other->wrapper.process = 2;
  add(other);
  EXPECT_EQ(ready_.at(0).plan, nullptr);
}

TEST_F(AssociationTest, AnUnreadablePlanPutsTheWholeClassInDoubt) {
  add(plan(a));
  association_.add_unreadable("BatchDecodeWithPagedKVCacheWrapper.plan", 0, 1);
  EXPECT_EQ(run(a).plan, nullptr);
  EXPECT_TRUE(run(a).has_plan_in_doubt);
  const auto next = add(plan(a));
  EXPECT_EQ(run(a).plan, next);
}

TEST_F(AssociationTest, AMissingNumberAfterAPlanPutsItInDoubt) {
  auto gap = plan(a);
  gap->is_next_missing = true;
  add(gap);
  EXPECT_TRUE(run(a).has_plan_in_doubt);
}

TEST_F(AssociationTest, APlanThatRaisedIsNone) {
  add(plan(a));
  add(plan(a, CallStatus::unfinished));
  EXPECT_TRUE(run(a).has_plan_in_doubt);
}

TEST_F(AssociationTest, InAnUnorderedMillisecondASecondPlanIsInDoubt) {
  const auto first = add(plan(a));
  auto second = plan(a);
  second->is_order_in_doubt = true;
  add(second);
  auto unordered = call("BatchDecodeWithPagedKVCacheWrapper.run", a);
  unordered->is_order_in_doubt = true;
  ready_.clear();
  add(unordered);
  EXPECT_TRUE(ready_.at(0).has_plan_in_doubt);
  EXPECT_EQ(run(a).plan, second);  // a later millisecond
}

TEST_F(AssociationTest, TheFirstPlanOfAWrapperIsCertainInAnyOrder) {
  auto only = plan(a);
  only->is_order_in_doubt = true;
  add(only);
  auto unordered = call("BatchDecodeWithPagedKVCacheWrapper.run", a);
  unordered->is_order_in_doubt = true;
  ready_.clear();
  add(unordered);
  EXPECT_EQ(ready_.at(0).plan, only);
}

TEST_F(AssociationTest, FunctionsNobodyBindsAreNotRelevant) {
  const Association::Role* norm = association_.role_of("rmsnorm");
  const Association::Role* init =
      association_.role_of("BatchDecodeWithPagedKVCacheWrapper.__init__");
  ASSERT_TRUE(norm != nullptr && init != nullptr);
  EXPECT_TRUE(norm->is_on_its_own());
  EXPECT_FALSE(init->is_on_its_own());
  EXPECT_EQ(association_.role_of("merge_state"), nullptr);
}

}  // namespace
}  // namespace cw
