//! The operators of `ai.onnx.ml`. Specification: <https://onnx.ai/onnx/operators/index.html#ai-onnx-ml>. Where it is silent, they
//! do what ONNX Runtime does, so that a model answers alike on either.

mod encoders;
mod features;
mod labels;
mod linear;
mod scores;
mod svm;
mod svm_probability;
mod tree_ensemble;
mod tree_nodes;
mod trees;

use super::operators::Build;

pub(super) fn find(name: &str) -> Option<Build> {
    Some(match name {
        "TreeEnsembleClassifier" => tree_ensemble::classifier,
        "TreeEnsembleRegressor" => tree_ensemble::regressor,
        "TreeEnsemble" => tree_ensemble::ensemble,
        "LinearClassifier" => linear::classifier,
        "LinearRegressor" => linear::regressor,
        "SVMClassifier" => svm::classifier,
        "SVMRegressor" => svm::regressor,
        "Scaler" => features::scaler,
        "Normalizer" => features::normalizer,
        "Binarizer" => features::binarizer,
        "Imputer" => features::imputer,
        "FeatureVectorizer" => features::vectorizer,
        "ArrayFeatureExtractor" => features::extractor,
        "LabelEncoder" => encoders::label_encoder,
        "CategoryMapper" => encoders::category_mapper,
        "OneHotEncoder" => encoders::one_hot,
        _ => return None,
    })
}
