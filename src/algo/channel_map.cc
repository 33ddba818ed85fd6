// SPDX-License-Identifier: Apache-2.0
#include "algo/channel_map.h"

#include <algorithm>
#include <cassert>
#include <map>
#include <tuple>
#include <utility>

namespace tutti {

ChannelTable::ChannelTable(int n, const Shapes& shapes) {
  for (const std::vector<int>& ring : shapes.rings) {
    assert(static_cast<int>(ring.size()) == n);
    const size_t first = place_.size();
    order_.insert(order_.end(), ring.begin(), ring.end());
    place_.resize(first + ring.size());
    for (size_t i = 0; i < ring.size(); ++i) place_[first + static_cast<size_t>(ring[i])] = static_cast<int>(i);
  }
  assert(shapes.forests.size() % static_cast<size_t>(n) == 0);
  map_ = {.n = n,
          .root = shapes.root,
          .rings = static_cast<int>(shapes.rings.size()),
          .order = order_.data(),
          .place = place_.data(),
          .trees = trees_.make(n, shapes.trees),
          .forests = forests_.make(n, shapes.forests)};
  order_steps(shapes);
  map_.steps = steps_.data();
}

void ChannelTable::order_steps(const Shapes& shapes) {
  const int n = map_.n;
  const auto depth_in = [](const Parents& tree, int rank) {
    int depth = 0;
    for (int v = tree[static_cast<size_t>(rank)]; v >= 0; v = tree[static_cast<size_t>(v)]) ++depth;
    return depth;
  };
  for (int first = 0; first < map_.forests.count; first += n) {
    const auto tree = [&](int of) -> const Parents& { return shapes.forests[static_cast<size_t>(first + of)]; };
    // By sender, receiver and level of the sender: how many trees cross there.
    std::map<std::tuple<int, int, int>, int> crossing;
    for (int rank = 0; rank < n; ++rank) {
      std::vector<std::pair<int, int>> levels;  // and the tree
      for (int of = 0; of < n; ++of) {
        const int depth = depth_in(tree(of), rank), parent = tree(of)[static_cast<size_t>(rank)];
        levels.emplace_back(shapes.towards_roots ? -depth : depth, of);
        if (parent < 0) continue;
        ++(shapes.towards_roots ? crossing[{rank, parent, -depth}] : crossing[{parent, rank, depth - 1}]);
      }
      std::sort(levels.begin(), levels.end());
      for (const auto& [level, of] : levels) steps_.push_back(of);
    }
    for (const auto& [at, trees] : crossing) {
      const auto& [from, to, level] = at;
      const auto before = crossing.find({from, to, level - 1});
      map_.forest_slots = std::max(map_.forest_slots, trees + (before == crossing.end() ? 0 : before->second));
    }
  }
}

SpanningTrees ChannelTable::Trees::make(int n, const std::vector<Parents>& trees) {
  int depth = 0;
  for (const Parents& tree : trees) {
    assert(static_cast<int>(tree.size()) == n);
    std::vector<std::vector<int>> below(tree.size());
    for (int rank = 0; rank < n; ++rank) {
      const int parent = tree[static_cast<size_t>(rank)];
      if (parent >= 0) below[static_cast<size_t>(parent)].push_back(rank);
      int above = 0;
      for (int v = parent; v >= 0; v = tree[static_cast<size_t>(v)]) {
        ++above;
        assert(above < n);
      }
      depth = std::max(depth, above);
    }
    parents.insert(parents.end(), tree.begin(), tree.end());
    for (const std::vector<int>& list : below) {
      begin.push_back(static_cast<int>(children.size()));
      children.insert(children.end(), list.begin(), list.end());
    }
  }
  begin.push_back(static_cast<int>(children.size()));
  return {.n = n,
          .count = static_cast<int>(trees.size()),
          .depth = depth,
          .parents = parents.data(),
          .begin = begin.data(),
          .children = children.data()};
}

void hang_from(int root, ChannelTable::Parents& parents) {
  int above = -1;
  for (int v = root; v >= 0;) {
    const int next = parents[static_cast<size_t>(v)];
    parents[static_cast<size_t>(v)] = above;
    above = v;
    v = next;
  }
}

}  // namespace tutti
