//! Each operation against candle's primitives, and each gradient against central finite differences.

use super::{
    attention, linear, losses,
    product::{self, Matrix},
    *,
};
use candle_core::{CpuStorage, D, DType, Device, Layout, Result, Storage, Tensor, Var};
use std::mem::MaybeUninit;

/// Values from -1.5 to 1.5, no two alike.
fn random(seed: u64, shape: &[usize]) -> Tensor {
    let values: Vec<f32> = uniform(seed, shape.iter().product()).into_iter().map(|v| 1.5 * v).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn values(x: &Tensor) -> Vec<f64> {
    x.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap()
}

fn worst(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, |most: f64, v| if v > most || v.is_nan() { v } else { most })
}

/// Weights that make one number of a result, so that no two of its elements have the same gradient.
fn weighted(y: &Tensor) -> f64 {
    let weights = uniform(77, y.elem_count());
    values(y).iter().zip(weights).map(|(y, w)| y * f64::from(w)).sum()
}

fn gradients(inputs: &[Var], f: &dyn Fn(&[Tensor]) -> Result<Tensor>) -> Vec<Vec<f64>> {
    let tensors: Vec<Tensor> = inputs.iter().map(|v| v.as_tensor().clone()).collect();
    let y = f(&tensors).unwrap();
    let weights = Tensor::from_vec(uniform(77, y.elem_count()), y.shape(), &Device::Cpu).unwrap();
    let grads = (y * weights).unwrap().sum_all().unwrap().backward().unwrap();
    inputs.iter().map(|v| values(grads.get(v).expect("an input has no gradient"))).collect()
}

/// Central differences of the weighted sum, with the sum in double precision.
fn differences(inputs: &[Tensor], f: &dyn Fn(&[Tensor]) -> Result<Tensor>) -> Vec<Vec<f64>> {
    const STEP: f32 = 1.0 / 128.0;
    let at = |input: usize, element: usize, by: f32| {
        let mut moved = inputs.to_vec();
        let mut values: Vec<f32> = inputs[input].flatten_all().unwrap().to_vec1().unwrap();
        values[element] += by;
        moved[input] = Tensor::from_vec(values, inputs[input].shape(), &Device::Cpu).unwrap();
        weighted(&f(&moved).unwrap())
    };
    let slope = |input, element| (at(input, element, STEP) - at(input, element, -STEP)) / (2.0 * f64::from(STEP));
    inputs.iter().enumerate().map(|(i, x)| (0..x.elem_count()).map(|element| slope(i, element)).collect()).collect()
}

type Function<'a> = &'a dyn Fn(&[Tensor]) -> Result<Tensor>;

/// Compares value and gradients of `fused` with those of `primitive`, and the gradients with finite differences.
fn agree(name: &str, inputs: &[Tensor], fused: Function<'_>, primitive: Function<'_>) {
    let (a, b) = (values(&fused(inputs).unwrap()), values(&primitive(inputs).unwrap()));
    assert!(worst(&a, &b) < 2e-6 * (1.0 + b.iter().fold(0.0, |m: f64, v| m.max(v.abs()))), "{name}: values");
    let vars: Vec<Var> = inputs.iter().map(|x| Var::from_tensor(x).unwrap()).collect();
    let (ours, theirs, numeric) = (gradients(&vars, fused), gradients(&vars, primitive), differences(inputs, fused));
    for (i, ours) in ours.iter().enumerate() {
        let largest = numeric[i].iter().fold(0.0, |m: f64, v| m.max(v.abs()));
        assert!(largest > 1e-4, "{name}: gradient {i} is of nothing");
        assert!(worst(ours, &theirs[i]) < 1e-4 * largest + 1e-6, "{name}: gradient {i} is not that of the primitives");
        assert!(worst(ours, &numeric[i]) < 3e-3 * largest + 5e-5, "{name}: gradient {i} is not the slope");
    }
}

/// The first columns of a wider matrix, as sub-networks see them.
fn narrowed(x: &Tensor, columns: usize) -> Result<Tensor> {
    x.narrow(1, 0, columns)
}

#[test]
fn rms_norm_is_a_norm() {
    let (x, w) = (random(1, &[40, 19]), random(2, &[19]));
    agree("whole", &[x.narrow(0, 0, 3).unwrap(), w.clone()], &|t| rms_norm(&t[0], &t[1], 1e-5), &|t| {
        candle_nn::ops::rms_norm_slow(&t[0], &t[1], 1e-5)
    });
    agree(
        "a narrowed view of more rows than a block",
        &[x, w],
        &|t| rms_norm(&narrowed(&t[0], 7)?, &t[1].narrow(0, 0, 7)?, 1e-5),
        &|t| candle_nn::ops::rms_norm_slow(&narrowed(&t[0], 7)?.contiguous()?, &t[1].narrow(0, 0, 7)?, 1e-5),
    );
    assert!(rms_norm(&random(1, &[2, 3]), &random(1, &[4]), 1e-5).is_err());
}

#[test]
fn a_frozen_norm_has_no_gradient_of_its_weight() {
    let (x, w) = (Var::from_tensor(&random(1, &[3, 8])).unwrap(), random(2, &[8]));
    let grads = rms_norm(&x, &w, 1e-5).unwrap().sum_all().unwrap().backward().unwrap();
    assert!(grads.get(&x).is_some() && grads.get(&w).is_none());
}

#[test]
fn rope_turns() {
    let x = random(3, &[5, 2 * 6]);
    let angles = random(4, &[5, 3]);
    let (cos, sin) = (angles.cos().unwrap(), angles.sin().unwrap());
    let heads = |t: &Tensor| t.reshape((5, 2, 6))?.transpose(0, 1);
    agree("heads where they lie", std::slice::from_ref(&x), &|t| rope(&heads(&t[0])?, &cos, &sin), &|t| {
        candle_nn::rotary_emb::rope_slow(&heads(&t[0])?.contiguous()?.unsqueeze(0)?, &cos, &sin)?.squeeze(0)
    });
    assert!(rope(&heads(&x).unwrap(), &cos.narrow(0, 0, 4).unwrap(), &sin).is_err());
}

#[test]
fn causal_softmax_sees_what_came_before() {
    // The rows of two heads stand under each other.
    let scores = random(5, &[2, 14, 7]);
    agree("two groups", &[scores], &|t| causal_softmax(&t[0], 0.7), &|t| attention::primitive(&t[0], 0.7));
    let shares = causal_softmax(&random(6, &[4, 4]), 1.0).unwrap().to_vec2::<f32>().unwrap();
    for (row, shares) in shares.iter().enumerate() {
        assert!(shares[row + 1..].iter().all(|v| v.to_bits() == 0), "{shares:?}");
        assert!((shares.iter().sum::<f32>() - 1.0).abs() < 1e-6, "{shares:?}");
    }
    assert!(causal_softmax(&random(6, &[5, 4]), 1.0).is_err() && causal_softmax(&random(6, &[2, 4]), 1.0).is_err());
}

#[test]
fn attention_without_a_gradient_is_that_with_one() {
    let of = |seed, heads: usize, tokens: usize, size: usize| random(seed, &[heads, tokens, size]);
    // Less than a part of the queries, whole parts, and a part that is not whole; heads in groups, and each with a group.
    for (heads, groups, tokens, size) in [(6, 2, 70, 16), (3, 3, 256, 64), (9, 3, 300, 34)] {
        let (queries, keys, values) = (of(1, heads, tokens, size), of(2, groups, tokens, size), of(3, groups, tokens, size));
        let found = causal_attention(&queries, &keys, &values, 0.4).unwrap().unwrap();
        let stacked = queries.reshape((groups, heads / groups * tokens, size)).unwrap();
        let shares = attention::primitive(&stacked.matmul(&keys.t().unwrap()).unwrap(), 0.4).unwrap();
        let mixed = shares.matmul(&values).unwrap().reshape((heads, tokens, size)).unwrap().transpose(0, 1).unwrap();
        assert_eq!(found.dims(), [tokens, heads * size]);
        let (found, expected) = (self::values(&found), self::values(&mixed));
        assert!(worst(&found, &expected) < 3e-5, "{heads} {groups} {tokens} {size}: {}", worst(&found, &expected));
    }
    let (queries, keys) = (of(1, 4, 70, 8), of(2, 2, 70, 8));
    let tracked = Var::from_tensor(&queries).unwrap();
    assert!(causal_attention(&tracked, &keys, &keys, 1.0).unwrap().is_none());
    let few = |x: &Tensor| x.narrow(1, 0, 64).unwrap();
    assert!(causal_attention(&few(&queries), &few(&keys), &few(&keys), 1.0).unwrap().is_none());
    for (keys, values) in [
        (of(2, 3, 70, 8), of(2, 3, 70, 8)),
        (of(2, 2, 70, 8), of(2, 2, 69, 8)),
        (of(2, 2, 69, 8), of(2, 2, 69, 8)),
        (of(2, 2, 70, 6), of(2, 2, 70, 6)),
    ] {
        assert!(causal_attention(&queries, &keys, &values, 1.0).is_err());
    }
}

#[test]
fn swiglu_gates() {
    let (gate, up) = (random(7, &[3, 11]), random(8, &[3, 11]));
    agree("whole", &[gate, up], &|t| swiglu(&t[0], &t[1]), &|t| t[0].silu()? * &t[1]);
}

#[test]
fn a_frozen_projection_passes_the_gradient_on_and_keeps_none() {
    let (x, w) = (random(9, &[4, 6]), random(10, &[8, 10]));
    let part = w.narrow(0, 0, 5).unwrap().narrow(1, 0, 6).unwrap();
    agree("a corner", std::slice::from_ref(&x), &|t| frozen_matmul(&t[0], &part), &|t| t[0].matmul(&part.t()?));
    let (x, w) = (Var::from_tensor(&x).unwrap(), Var::from_tensor(&part.contiguous().unwrap()).unwrap());
    let grads = frozen_matmul(&x, &w).unwrap().sum_all().unwrap().backward().unwrap();
    assert!(grads.get(&x).is_some() && grads.get(&w).is_none());
    assert!(frozen_matmul(&x, &random(1, &[5, 7])).is_err());
}

#[test]
fn a_product_is_candles_whatever_the_memory_held() {
    let (x, w) = (random(16, &[70, 90]), random(17, &[200, 90]));
    let corner = |t: &Tensor, rows| t.narrow(0, 1, rows).unwrap().narrow(1, 5, 80).unwrap();
    let (columns, turned) = (random(18, &[90, 40]), random(19, &[80, 3]));
    let pairs = [
        (x.clone(), w.clone()),
        (corner(&x, 33), corner(&w, 150)),
        (x.narrow(0, 2, 1).unwrap(), columns.t().unwrap()),
        (x.clone(), columns.t().unwrap()),
        (turned.t().unwrap(), corner(&w, 17)),
    ];
    let mut out = vec![f32::NAN; 50];
    for (x, w) in pairs {
        let expected = x.matmul(&w.t().unwrap()).unwrap();
        let least =
            x.abs().unwrap().matmul(&w.abs().unwrap().t().unwrap()).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let expected = expected.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        frozen_matmul_into(&x, &w, &mut out).unwrap();
        assert_eq!(out.len(), expected.len());
        let close = out.iter().zip(&expected).zip(&least).all(|((a, b), least)| (a - b).abs() <= least / 65536.0);
        assert!(close, "{:?} {:?}", x.layout(), w.layout());

        let ((x, of_x), (w, of_w)) = (x.storage_and_layout(), w.storage_and_layout());
        let (Storage::Cpu(x), Storage::Cpu(w)) = (&*x, &*w) else { unreachable!("made there") };
        let mut bits = vec![MaybeUninit::new(f32::NAN); expected.len()];
        product::single(&Matrix::new(x, of_x).unwrap(), &Matrix::new(w, of_w).unwrap(), &mut bits, 1);
        // SAFETY: all of them are.
        let same = bits.iter().zip(&expected).all(|(a, b)| unsafe { a.assume_init() }.to_bits() == b.to_bits());
        assert!(same, "{of_x:?} {of_w:?}");
    }
    assert!(frozen_matmul_into(&x, &columns, &mut out).is_err());
    assert!(frozen_matmul_into(&x, &random(20, &[90]), &mut out).is_err());
}

#[test]
fn a_matrix_that_is_larger_than_its_storage_is_none() {
    let storage = CpuStorage::F32(vec![0.0; 12]);
    let of = |rows: usize, columns: usize, stride: [usize; 2], offset| {
        Matrix::new(&storage, &Layout::new((rows, columns).into(), stride.to_vec(), offset)).is_ok()
    };
    assert!(of(3, 4, [4, 1], 0) && of(4, 3, [1, 4], 0) && of(2, 4, [4, 1], 4) && of(0, 4, [4, 1], 12));
    assert!(!of(3, 4, [4, 1], 1) && !of(4, 4, [4, 1], 0) && !of(2, 2, [usize::MAX, 1], 0) && !of(1, 1, [1, 1], 12));
}

#[test]
fn an_adapter_adds_its_share() {
    let (x, w) = (random(11, &[4, 6]), random(12, &[8, 10]));
    let (a, b) = (random(13, &[2, 10]), random(14, &[8, 2]));
    // A sub-network takes the first columns of `a` and rows of `b`, and so must their gradients.
    let corner = |t: &Tensor, rows: usize, columns: usize| t.narrow(0, 0, rows)?.narrow(1, 0, columns);
    let part = corner(&w, 5, 6).unwrap();
    for dropout in [None, Some(Dropout { probability: 0.4, seed: 5 })] {
        agree(
            "adapter",
            &[x.clone(), a.clone(), b.clone()],
            &|t| adapted_matmul(&t[0], &part, &corner(&t[1], 2, 6)?, &corner(&t[2], 5, 2)?, 1.75, dropout),
            &|t| linear::primitive(&t[0], &part, &corner(&t[1], 2, 6)?, &corner(&t[2], 5, 2)?, 1.75, dropout),
        );
    }
    assert!(adapted_matmul(&x, &part, &a, &b, 1.0, None).is_err());
}

#[test]
fn cross_entropy_is_the_likelihood() {
    let logits = (random(15, &[5, 37]) * 3.0).unwrap();
    let targets = [0u32, 36, 5, 5, 20];
    let ids = Tensor::new(&targets, &Device::Cpu).unwrap();
    agree("whole", std::slice::from_ref(&logits), &|t| cross_entropy(&t[0], &targets), &|t| {
        candle_nn::loss::cross_entropy(&t[0], &ids)
    });
    let part = |t: &Tensor| narrowed(t, 30);
    let targets = [0u32, 29, 5, 5, 20];
    let ids = Tensor::new(&targets, &Device::Cpu).unwrap();
    agree("a view", std::slice::from_ref(&logits), &|t| cross_entropy(&part(&t[0])?, &targets), &|t| {
        candle_nn::loss::cross_entropy(&part(&t[0])?.contiguous()?, &ids)
    });
    assert!(cross_entropy(&logits, &[0, 0, 0, 0, 37]).is_err() && cross_entropy(&logits, &[0]).is_err());
    let broken = Tensor::new(&[[1f32, f32::NAN]], &Device::Cpu).unwrap();
    assert!(cross_entropy(&broken, &[0]).unwrap().to_scalar::<f32>().unwrap().is_nan(), "a broken logit must show");
}

#[test]
fn divergences_are_what_they_are_called() {
    let student = (random(16, &[3, 41]) * 2.0).unwrap();
    let teacher = (random(17, &[3, 41]) * 2.0).unwrap();
    for kind in [Divergence::ForwardKl, Divergence::ReverseKl, Divergence::SymmetricKl, Divergence::JensenShannon] {
        for temperature in [0.9, 2.0] {
            agree(
                &format!("{kind:?} at {temperature}"),
                std::slice::from_ref(&student),
                &|t| divergence(&t[0], &teacher, kind, temperature),
                &|t| losses::primitive(&t[0], &teacher, kind, temperature),
            );
        }
        let of = |a: &Tensor, b: &Tensor| divergence(a, b, kind, 1.0).unwrap().to_scalar::<f32>().unwrap();
        assert!(of(&student, &student).abs() < 1e-6, "{kind:?} of a distribution from itself");
        assert!(of(&student, &teacher) > 0.05, "{kind:?}");
        let symmetric = (of(&student, &teacher) - of(&teacher, &student)).abs() < 1e-5;
        assert_eq!(symmetric, matches!(kind, Divergence::SymmetricKl | Divergence::JensenShannon), "{kind:?}");
    }
    let (far, other) =
        (Tensor::new(&[[200f32, 0.0]], &Device::Cpu).unwrap(), Tensor::new(&[[0f32, 200.0]], &Device::Cpu).unwrap());
    let most = divergence(&far, &other, Divergence::JensenShannon, 1.0).unwrap().to_scalar::<f32>().unwrap();
    assert!((most - std::f32::consts::LN_2).abs() < 1e-5, "{most}");
    let teacher = Var::from_tensor(&teacher).unwrap();
    let student = Var::from_tensor(&student).unwrap();
    let grads = divergence(&student, &teacher, Divergence::ForwardKl, 1.0).unwrap().backward().unwrap();
    assert!(grads.get(&student).is_some() && grads.get(&teacher).is_none(), "a teacher is not taught");
    assert!(divergence(&student, &teacher, Divergence::ForwardKl, 0.0).is_err());
}

#[test]
fn a_vocabulary_of_real_size_gives_what_double_precision_gives() {
    let logits = (random(18, &[2, 50_000]) * 6.0).unwrap();
    let found = cross_entropy(&logits, &[7, 49_999]).unwrap().to_scalar::<f32>().unwrap();
    let exact: f64 = [(0, 7), (1, 49_999)]
        .iter()
        .map(|&(row, target)| {
            let row = values(&logits.narrow(0, row, 1).unwrap());
            row.iter().map(|v| v.exp()).sum::<f64>().ln() - row[target]
        })
        .sum();
    assert!((f64::from(found) - exact / 2.0).abs() < 2e-6 * exact, "{found} {exact}");
    let soft = candle_nn::ops::softmax(&logits, D::Minus1).unwrap();
    let var = Var::from_tensor(&logits).unwrap();
    let grads = cross_entropy(&var, &[7, 49_999]).unwrap().backward().unwrap();
    let gradient = values(grads.get(&var).unwrap());
    let mut expected: Vec<f64> = values(&soft).into_iter().map(|p| p / 2.0).collect();
    expected[7] -= 0.5;
    expected[50_000 + 49_999] -= 0.5;
    assert!(worst(&gradient, &expected) < 1e-6);
}
