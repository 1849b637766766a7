"""A small training loop without libraries: logistic regression by stochastic gradient descent, about ten seconds."""

import math
import random


def make_data(count, rng):
    rows = []
    for _ in range(count):
        x = [rng.gauss(0, 1) for _ in range(8)]
        rows.append((x, 1 if sum(x[:4]) + rng.gauss(0, 0.5) > 0 else 0))
    return rows


def predict(weights, x):
    z = sum(w * value for w, value in zip(weights, x, strict=False))
    return 1 / (1 + math.exp(-z))


def train_epoch(weights, rows, rate, rng):
    order = list(range(len(rows)))
    rng.shuffle(order)
    loss = 0.0
    for index in order:
        x, y = rows[index]
        p = predict(weights, x)
        loss -= math.log(p if y else 1 - p)
        for i in range(len(weights)):
            weights[i] += rate * (y - p) * x[i]
    return loss / len(rows)


def main():
    rng = random.Random(7)
    rows = make_data(5_000, rng)
    weights = [0.0] * 8
    with open("losses.csv", "w") as losses:
        for epoch in range(1, 601):
            loss = train_epoch(weights, rows, 0.01 / epoch, rng)
            losses.write(f"{epoch},{loss:.9f}\n")
            if epoch % 30 == 0:
                print(f"epoch {epoch:3d}  loss {loss:.6f}")
    print("weights", " ".join(f"{w:.4f}" for w in weights))


if __name__ == "__main__":
    main()
