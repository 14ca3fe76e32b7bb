"""The list of corrections treats all that the source documents define, derive and program; and what it says is so."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "book" / "corrections.md").read_text(encoding="utf8")
SECTIONS = dict(re.findall(r"^### (.+?)\n(.*?)(?=^##|\Z)", TEXT, re.M | re.S))

# Source, and words, formula or code that stands in it: all of each kind that the five documents hold. The section that
# treats it quotes it.
LIST = [
    # Formulas
    ("s1", r"\mathbb{E}_{z \sim q_\phi(z \mid x)}[\log p_\theta(x \mid z)] - \beta"),
    ("s1", r"q_\phi(z \mid x) = \frac{p_\theta(x, z)}{p_\theta(x)}"),
    ("s1", r"\min_{G} \max_{D} V(D, G)"),
    ("s1", r"h_t = \tanh(W_{hh} h_{t-1} + W_{xh} x_t + b_h)"),
    ("s4", r"P(w_i \mid c_j) = \frac{P(c_j)\, P(w_i \mid c_j)}{\sum_{k=1}^{K} P(c_k)\, P(w_i \mid c_k)}"),
    ("s4", r"P(y = 1 \mid x) = 1 / (1 + e^{-(b_0 + b_1 x_1 + \cdots + b_n x_n)})"),
    ("s4", r"y = \sigma(W x + b)"),
    # Code
    ("s0", "Dense(10, activation='relu')"),
    ("s1", "def vectorize_sequences(sequences, to_index)"),
    ("s1", "Dense(1, activation='sigmoid')"),
    ("s1", "tf.keras.datasets.imdb.load_data('imdb.npz', num_words=10000)"),
    ("s1", "model.fit(x_train, y_train, epochs=10, batch_size=128)"),
    ("s1", "predictions = model.predict(x_test)"),
    ("s4", "MultinomialNB().fit(X_train, data.target)"),
    # What they define, and what they say that an algorithm is or does
    ("s0", "它可以根据给定的数据生成新的数据"),
    ("s0", "随机生成、确定性生成、神经网络生成"),
    ("s0", "数据预处理、模型训练、模型评估、模型应用"),
    ("s0", "损失函数用于衡量模型的性能，它是模型学习的目标"),
    ("s0", "激活函数是一种常用的数据处理方法"),
    ("s1", "预测阶段"),
    ("s1", "编码器和解码器之间的差异"),
    ("s1", "通过生成器和判别器之间的对抗学习来学习生成规律"),
    ("s1", "通过循环连接的神经元来学习生成规律"),
    ("s2", "与训练数据相似的分布特征"),
    ("s2", "确定性生成模型的数学模型公式可以用来描述数据的生成过程"),
    ("s2", "随机生成模型的代码实例可以用来生成新的数据样本"),
    ("s2", "它描述了数据样本之间的概率关系"),
    ("s2", "它描述了数据样本如何生成的过程"),
    ("s2", "定义概率模型"),
    ("s2", "学习生成过程"),
    ("s2", "而不是仅仅对现有的数据进行预测或分类"),
    ("s3", "每个随机变量可以取任意值"),
    ("s3", "随机采样、随机梯度下降、随机挑战"),
    ("s3", "用于描述随机事件发生概率的数学模型"),
    ("s3", "一种不能直接观测到的变量，它们可以影响随机序列的生成过程"),
    ("s3", "可以用来表示随机序列的生成过程"),
    ("s3", "概率模型的学习可以通过最大似然估计、贝叶斯估计、 Expectation-Maximization 等方法实现"),
    ("s3", "隐变量可以用来表示随机序列的结构，例如语义、主题、关系"),
    ("s3", "隐变量的学习可以通过变分推断、EM算法、Expectation Propagation 等方法实现"),
    ("s3", "生成模型是一种用于生成随机序列的概率模型"),
    ("s3", "生成模型的学习可以通过最大似然估计、 Expectation-Maximization 等方法实现"),
    ("s3", "条件生成模型是一种用于生成条件随机序列的生成模型"),
    ("s3", "条件生成模型的学习可以通过最大条件似然估计、 Expectation-Maximization 等方法实现"),
    ("s3", "判别模型用于判断随机序列是否满足某个条件"),
    ("s3", "隐马尔可夫模型是一种特殊类型的生成模型，用于生成隐马尔可夫序列"),
    ("s3", "变分自动机是一种神经网络模型，用于生成和判断随机序列"),
    ("s3", "可以用来生成和判断文本、图像、音频等"),
    ("s3", "循环神经网络是一种神经网络模型，用于处理时序数据"),
    ("s3", "递归神经网络是一种神经网络模型，用于处理递归数据"),
    ("s3", "自回归模型是一种线性模型，用于预测时间序列"),
    ("s3", "LSTM是一种特殊类型的循环神经网络，用于处理长期依赖问题"),
    ("s3", "GRU是一种特殊类型的循环神经网络，用于处理长期依赖问题"),
    ("s3", "BERT是一种特殊类型的变压器模型，用于自然语言处理任务"),
    ("s3", "GPT是一种特殊类型的变压器模型，用于自然语言处理任务"),
    ("s3", "Transformer是一种特殊类型的自注意力机制模型，用于自然语言处理任务"),
    ("s3", "RNN是一种特殊类型的循环神经网络"),
    ("s3", "CNN是一种特殊类型的神经网络模型，用于处理图像数据"),
    ("s3", "R-CNN是一种特殊类型的卷积神经网络，用于目标检测任务"),
    ("s3", "DenseNet是一种特殊类型的卷积神经网络，用于图像分类任务"),
    ("s3", "Autoencoder是一种特殊类型的神经网络模型，用于降维和重构任务"),
    ("s3", "Variational Autoencoder是一种特殊类型的生成模型，用于降维和重构任务"),
    ("s3", "AutoRegressive是一种线性模型，用于时间序列预测"),
    ("s3", "LSTM-AutoRegressive是一种特殊类型的生成模型，用于时间序列预测"),
    ("s3", "R-CNN-AutoRegressive是一种特殊类型的生成模型，用于目标检测任务"),
    ("s4", "它描述了数据的概率分布"),
    ("s4", "条件化概率是条件概率的一种特殊表示"),
    ("s4", "对数似然性越高，模型对数据的拟合程度越好"),
    ("s4", "交叉熵越小，模型对数据的预测能力越强"),
    ("s4", "KL散度越小，两个概率分布越接近"),
    ("s4", "基于贝叶斯定理的生成模型"),
    ("s4", "基于最大熵的生成模型"),
    ("s4", "表示输入 $x$ 的概率"),
    ("s4", "生成模型的具体操作步骤"),
]


@pytest.mark.parametrize("source, words", LIST, ids=[f"{source} {words[:30]}" for source, words in LIST])
def test_the_list_treats(source, words):
    found = [title for title, body in SECTIONS.items() if words in body.replace("\n", " ").replace("> ", "")]
    assert any(source in title.rpartition("[")[2] for title in found), f"no section of {source} quotes {words}"


@pytest.mark.parametrize("title", SECTIONS)
def test_a_section_quotes_judges_and_checks(title):
    body = SECTIONS[title]
    assert re.search(r"\[s[0-4](, (s[0-4]|(questions? )?\d+(–\d+)?))*\]$", title)
    assert re.match(r"\s*\*\*(It|They) (says?|gives?)\*\*", body)
    assert len(re.findall(r"\*\*[^*]+\*\*", body)) >= 2
    check = body.rpartition("**The check.**")[2]
    assert check != body and (".ipynb" in check or "tests of this book" in check)


def test_every_question_of_s3_has_its_section():
    named = set()
    for words in re.findall(r"\[s3, questions? ([^\]]+)\]", " ".join(SECTIONS)):
        for first, last in re.findall(r"(\d+)(?:–(\d+))?", words):
            if words != "3–60":  # what all of them say
                named |= set(range(int(first), int(last or first) + 1))
    assert named == set(range(1, 61))


def test_vectorize_sequences_does_nothing():
    def vectorize_sequences(sequences, to_index):  # as in s1
        result = [[] for _ in range(len(sequences))]
        for i, sequence in enumerate(sequences):
            result[i] = [to_index[char] for char in sequence]
        return result

    reviews = [[1, 14, 22, 16], [1, 194, 1153, 194, 8255, 78, 228], [1]]
    assert vectorize_sequences(reviews, to_index=range(10000)) == reviews
    with pytest.raises(ValueError, match="inhomogeneous"):
        np.array(vectorize_sequences(reviews, to_index=range(10000)))
    with pytest.raises(TypeError):  # nor does it take the characters that it speaks of
        vectorize_sequences(["good film"], to_index=range(10000))


def test_the_text_generator_is_a_function_of_a_whole_text():
    torch.manual_seed(0)
    embedding, lstm, dense = torch.nn.Embedding(50, 8), torch.nn.LSTM(8, 8, batch_first=True), torch.nn.Linear(8, 1)
    texts = torch.cartesian_prod(*[torch.arange(50)] * 2)  # all of two words
    y = torch.sigmoid(dense(lstm(embedding(texts))[0][:, -1]))
    assert y.shape == (2500, 1) and not 0.5 < y.sum() < 2  # one number a text, and no distribution over texts


def test_the_naive_bayes_code_is_not_maximum_likelihood():
    from sklearn.naive_bayes import MultinomialNB

    x, y = np.array([[2, 1, 0], [0, 1, 3]]), np.array([0, 1])
    learnt = np.exp(MultinomialNB().fit(x, y).feature_log_prob_)
    assert np.allclose(learnt, (x + 1) / (x + 1).sum(1, keepdims=True))
    assert not np.allclose(learnt, x / x.sum(1, keepdims=True))


def test_what_a_hidden_markov_model_writes_is_no_markov_chain():
    start, stay = torch.tensor([0.5, 0.5]), torch.tensor([[0.9, 0.1], [0.1, 0.9]])
    table = torch.tensor([[0.8, 0.2], [0.3, 0.7]])

    def p(x, stay=stay):  # by the sum over all paths of states
        paths = torch.cartesian_prod(*[torch.arange(2)] * len(x))
        moves = torch.stack([stay[paths[:, t], paths[:, t + 1]] for t in range(len(x) - 1)]).prod(0)
        return (
            start[paths[:, 0]] * moves * torch.stack([table[paths[:, t], s] for t, s in enumerate(x)]).prod(0)
        ).sum()

    def next_is_0(past, stay=stay):
        return (p([*past, 0], stay) / p(past, stay)).item()

    last = [0, 1, 1, 0]  # the same last four symbols after two different beginnings
    assert abs(next_is_0([0, 0, 0, *last]) - next_is_0([1, 1, 1, *last])) > 1e-3
    free = torch.full((2, 2), 0.5)  # mutant: states without memory
    assert abs(next_is_0([0, 0, 0, *last], free) - next_is_0([1, 1, 1, *last], free)) < 1e-6


def test_open_gates_carry_a_gradient_that_a_plain_cell_loses():
    def arrives(cell, gates=None):
        torch.manual_seed(0)
        net = cell(1, 16)
        if gates is not None:  # of the gate that keeps: the second quarter in an LSTM, the second third in a GRU
            net.bias_ih_l0.data[16:32] += gates
        start = torch.zeros(1, 1, 16, requires_grad=True)
        state = (torch.zeros(1, 1, 16), start) if cell is torch.nn.LSTM else start
        end = net(torch.zeros(100, 1, 1), state)[1]
        (end[1] if cell is torch.nn.LSTM else end).sum().backward()
        return start.grad.abs().mean().item()

    assert arrives(torch.nn.RNN) < 1e-6
    assert arrives(torch.nn.LSTM, 8.0) > 0.5 and arrives(torch.nn.GRU, 8.0) > 0.5
    assert arrives(torch.nn.LSTM, -8.0) < 1e-6  # mutant: closed gates
