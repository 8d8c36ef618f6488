//! Probabilities of several classes from those of each pair: Wu, Lin and Weng, "Probability Estimates for Multi-class
//! Classification by Pairwise Coupling" (2004), second method, as LIBSVM and ONNX Runtime compute it.

const MAX_ROUNDS: usize = 100;

/// `pairs[i * n + j]` is the probability of the class `i` where it is `i` or `j`.
pub(super) fn coupled(pairs: &[f64], n: usize) -> Vec<f64> {
    let mut q = vec![0.0; n * n];
    for i in 0..n {
        for j in (0..n).filter(|j| *j != i) {
            q[i * n + i] += pairs[j * n + i] * pairs[j * n + i];
            q[i * n + j] = -pairs[j * n + i] * pairs[i * n + j];
        }
    }
    let mut p = vec![1.0 / n as f64; n];
    let largest_error = 0.005 / n as f64;
    for _ in 0..MAX_ROUNDS {
        let mut qp: Vec<f64> = (0..n).map(|i| (0..n).map(|j| q[i * n + j] * p[j]).sum()).collect();
        let mut pqp: f64 = p.iter().zip(&qp).map(|(p, qp)| p * qp).sum();
        if qp.iter().all(|qp| (qp - pqp).abs() < largest_error) {
            break;
        }
        for i in 0..n {
            let difference = (pqp - qp[i]) / q[i * n + i];
            p[i] += difference;
            let scale = 1.0 + difference;
            pqp = (pqp + difference * (difference * q[i * n + i] + 2.0 * qp[i])) / (scale * scale);
            for j in 0..n {
                qp[j] = (qp[j] + difference * q[i * n + j]) / scale;
                p[j] /= scale;
            }
        }
    }
    p
}

#[cfg(test)]
mod tests {
    use super::coupled;

    #[test]
    fn pairs_that_agree_give_what_they_agree_on() {
        let p = [0.5, 0.3, 0.2];
        let pairs: Vec<f64> = (0..9)
            .map(|at| if at / 3 == at % 3 { 0.0 } else { p[at / 3] / (p[at / 3] + p[at % 3]) })
            .collect();
        for (found, expected) in coupled(&pairs, 3).iter().zip(p) {
            assert!((found - expected).abs() < 5e-3, "{found} for {expected}");
        }
        let two = coupled(&[0.0, 0.7, 0.3, 0.0], 2);
        assert!((two[0] - 0.7).abs() < 5e-3 && (two[0] + two[1] - 1.0).abs() < 1e-9);
    }
}
