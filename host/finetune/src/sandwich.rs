//! Which sub-networks a group of sequences trains besides the full network.

use edgewise_onnx::SubNetwork;

/// The sandwich rule: the largest network, the smallest, and some between them.
pub struct Sandwich<'a> {
    /// The full network, the teacher.
    pub full: SubNetwork,
    /// The smallest sub-network, in every step.
    pub smallest: SubNetwork,
    /// The others of the group with this number; the same for the same number.
    pub draws: &'a (dyn Fn(u64) -> Vec<SubNetwork> + Sync),
}

impl Sandwich<'_> {
    /// The students of a group, without repetitions and without their teacher.
    pub(crate) fn students(&self, group: u64) -> Vec<SubNetwork> {
        let mut out: Vec<SubNetwork> = Vec::new();
        for sub in std::iter::once(self.smallest.clone()).chain((self.draws)(group)) {
            if sub != self.full && !out.contains(&sub) {
                out.push(sub);
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_taught_twice() {
        let sub = |width: u32| SubNetwork { layers: vec![0], width, kv_groups: vec![1], mlp: vec![8], pairs: None };
        let draws = |group: u64| vec![sub(8), sub(4), sub(2 + group as u32), sub(4)];
        let sandwich = Sandwich { full: sub(8), smallest: sub(2), draws: &draws };
        assert_eq!(sandwich.students(0), [sub(2), sub(4)]);
        assert_eq!(sandwich.students(1), [sub(2), sub(4), sub(3)]);
    }
}
